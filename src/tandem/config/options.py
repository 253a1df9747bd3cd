# SPDX-License-Identifier: GPL-2.0-or-later
"""Every section and option that Tandem knows, as tables.

The reader (`load`), and whoever documents or edits a configuration (the man page, LuCI), work
from these tables alone. Names are those of OpenWrt's keepalived package and of keepalived.conf.
`default` is UCI text and is read like a value; None: not set, or derived as `help` says.
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem.config import sync_values, syntax
from tandem.config.values import (
    ADDRESS,
    COMMAND,
    DEVICE,
    GROUP,
    NAME,
    PASSWORD,
    PATH,
    SWITCH,
    TEXT,
    USER,
    Kind,
    choice,
    interface,
    multicast_group,
    network,
    seconds,
    whole,
)


@dataclass(frozen=True, slots=True)
class Option:
    """An option that is understood."""

    kind: Kind
    default: str | None
    help: str
    many: bool = False  # a list
    required: bool = False
    secret: bool = False  # its value is never printed


@dataclass(frozen=True, slots=True)
class Refused:
    """An option that keepalived knows and Tandem can't honour; switched off it is accepted."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoEffect:
    """An option that is accepted with a warning because there is nothing left for it to do."""

    reason: str


Entry = Option | Refused | NoEffect
Table = dict[str, Entry]

REFERENCE = Kind("the name of a section, or a text in keepalived.conf's syntax", str)
WORD = Kind("one word", lambda text: _word(text))  # that `syntax` reads together with the others

_NO_MAIL = Refused("not supported: Tandem sends no mail; use a notify script")
_NO_LVS = Refused("not supported: Tandem does no load balancing")
_NO_BFD = Refused("not supported: Tandem does no BFD; use a track_script or a short advert_int")
_NO = Refused("not supported")
_OWN_NFT = Refused("not supported: Tandem filters and translates in an nftables table of its own")
_NO_FIFO = Refused("not supported: use a notify script, or ubus")
_NO_FILE = Refused("not supported: use a track_script")
_NETLINK = NoEffect("no effect: link state always comes from netlink")
_ALWAYS = NoEffect("no effect: Tandem always works this way")

_VERSION = Kind("2 or 3", lambda text: {"2": 2, "3": 3}.get(text) or _refuse())
_GARP_SECONDS = seconds("0", "86400")


def _refuse() -> int:
    raise ValueError


def _switch(default: str | None, text: str) -> Option:
    return Option(SWITCH, default, text)


def _garp(prefix: str, place: str) -> Table:
    def default(text: str) -> str | None:
        return text if prefix else None  # an instance's own default is the one of globals

    return {
        f"{prefix}garp_master_delay": Option(
            _GARP_SECONDS, default("5"), f"second burst of gratuitous ARP, after taking over{place}"
        ),
        f"{prefix}garp_master_repeat": Option(whole(1, 1000), default("5"), f"packets in a burst{place}"),
        f"{prefix}garp_master_refresh": Option(
            _GARP_SECONDS, default("0"), f"pause between bursts while active, 0: none{place}"
        ),
        f"{prefix}garp_master_refresh_repeat": Option(
            whole(1, 1000), default("1"), f"packets in a refreshing burst{place}"
        ),
        f"{prefix}garp_lower_prio_delay": Option(
            _GARP_SECONDS, None, "second burst after a lower-priority advert was heard; as garp_master_delay"
        ),
        f"{prefix}garp_lower_prio_repeat": Option(
            whole(0, 1000), None, "packets in such a burst; as garp_master_repeat"
        ),
    }


GLOBALS: Table = {
    "enabled": _switch("1", "start the daemon"),
    "router_id": Option(TEXT, "", "name of this machine in logs and status"),
    "vrrp_version": Option(_VERSION, "2", "default version of IPv4 instances; IPv6 is always 3"),
    "vrrp_mcast_group4": Option(multicast_group(4), "224.0.0.18", "where IPv4 adverts go"),
    "vrrp_mcast_group6": Option(multicast_group(6), "ff02::12", "where IPv6 adverts go"),
    "vrrp_startup_delay": Option(seconds("0", "3600"), "0", "wait after start before taking part"),
    "vrrp_rt_priority": Option(whole(0, 99), "50", "SCHED_FIFO priority, 0: ordinary scheduling"),
    "vrrp_no_swap": _switch("1", "lock the daemon's memory"),
    "vrrp_strict": _switch("0", "nothing that the RFC does not know: no password, unicast, accept mode..."),
    "vrrp_down_timer_adverts": Option(whole(1, 100), "3", "down_timer_adverts of all instances"),
    "vrrp_min_garp": _switch("0", "one gratuitous ARP per address, no second burst"),
    "vrrp_check_unicast_src": _switch("1", "accept unicast adverts of known peers only"),
    **_garp("vrrp_", " (default of all instances)"),
    "damping_changes": Option(
        whole(0, 1000), "5", "a group does not preempt after so many changes of role in damping_time; 0: off"
    ),
    "damping_time": Option(seconds("1", "86400"), "60", "see damping_changes"),
    "script_user": Option(USER, None, "user [group] that scripts run as"),
    "address_lifetime": Option(
        Kind("0 (off) or a whole number of seconds from 2 to 3600", lambda text: _lifetime(text)),
        "3",
        "dead man's switch: the kernel removes virtual addresses this long after the daemon hangs",
    ),
    "log_level": Option(choice("error", "warning", "info", "debug"), "info", "what is logged"),
    "alt_config_file": Refused("not supported: Tandem reads UCI only; write its settings here"),
    "dynamic_interfaces": _ALWAYS,
    "vrrp_higher_prio_send_advert": _ALWAYS,
    "linkbeat_use_polling": _NETLINK,
    "process_names": NoEffect("no effect: the daemon is always called tandemd"),
    "enable_script_security": NoEffect("no effect: Tandem always warns of scripts that others may write to"),
    "vrrp_skip_check_adv_addr": NoEffect("no effect: the addresses of every advert are checked"),
    "notification_email": _NO_MAIL,
    "notification_email_from": _NO_MAIL,
    "smtp_server": _NO_MAIL,
    "smtp_helo_name": _NO_MAIL,
    "smtp_connect_timeout": _NO_MAIL,
    "smtp_alert": _NO_MAIL,
    "smtp_alert_vrrp": _NO_MAIL,
    "smtp_alert_checker": _NO_MAIL,
    "no_email_faults": _NO_MAIL,
    "default_interface": Refused("not supported: write the device into each address and route"),
    "vrrp_iptables": _OWN_NFT,
    "vrrp_ipsets": _OWN_NFT,
    "nftables": _OWN_NFT,
    "nftables_priority": _OWN_NFT,
    "nftables_counters": _OWN_NFT,
    "nftables_ifindex": _OWN_NFT,
    "vrrp_priority": Refused("not supported: use vrrp_rt_priority"),
    "vrrp_notify_fifo": _NO_FIFO,
    "vrrp_notify_fifo_script": _NO_FIFO,
    "notify_fifo": _NO_FIFO,
    "notify_fifo_script": _NO_FIFO,
    **dict.fromkeys(
        (
            "net_namespace", "instance", "use_pid_dir", "child_wait_time", "startup_script",
            "startup_script_timeout", "shutdown_script", "shutdown_script_timeout", "max_auto_priority",
            "min_auto_priority_delay", "disable_local_igmp",
            "vrrp_garp_interval", "vrrp_gna_interval", "vrrp_garp_extra_if", "vrrp_lower_prio_no_advert",
            "vrrp_cpu_affinity", "vrrp_rlimit_rttime",
            "vrrp_notify_priority_changes", "enable_traps", "enable_snmp_vrrp", "enable_snmp_rfc",
            "enable_snmp_rfcv2", "enable_snmp_rfcv3", "enable_snmp_keepalived", "snmp_socket",
            "enable_dbus", "dbus_service_name", "vrrp_rx_bufs_policy", "vrrp_rx_bufs_multiplier",
            "log_unknown_vrids", "vmac_prefix", "vmac_addr_prefix", "umask",
        ),
        _NO,
    ),
    **dict.fromkeys(
        ("lvs_sync_daemon", "lvs_timeouts", "lvs_flush", "lvs_flush_on_stop", "enable_snmp_checker"), _NO_LVS
    ),
}  # fmt: skip


def _lifetime(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else -1
    if number == 0 or 2 <= number <= 3600:
        return number
    raise ValueError


_NOTIFY: Table = {
    "notify_master": Option(COMMAND, None, "run on becoming MASTER"),
    "notify_backup": Option(COMMAND, None, "run on becoming BACKUP"),
    "notify_fault": Option(COMMAND, None, "run on becoming FAULT"),
    "notify_stop": Option(COMMAND, None, "run when the daemon stops"),
    "notify_master_rx_lower_pri": Option(
        COMMAND, None, "run when a lesser router was active too and the addresses were announced again"
    ),
    "notify": Option(COMMAND, None, "run on each of these, with what, name, state and priority added"),
    "notify_deleted": _NO,
    "notify_priority_changes": _NO,
    "smtp_alert": _NO_MAIL,
}

_TRACKS: Table = {
    "track_interface": Option(
        REFERENCE, None, "track_interface sections, or 'eth0 [weight N] [reverse]'", many=True
    ),
    "track_script": Option(
        REFERENCE, None, "track_script sections, or 'vrrp_script [weight N] [reverse]'", many=True
    ),
    "track_file": _NO_FILE,
    "track_process": _NO_FILE,
    "track_bfd": _NO_BFD,
}

INSTANCE: Table = {
    "name": Option(NAME, None, "name of the instance; default: the section's"),
    "interface": Option(DEVICE, None, "network (lan) or device (br-lan) of the adverts", required=True),
    "virtual_router_id": Option(whole(1, 255), None, "the same on all routers", required=True),
    "version": Option(_VERSION, None, "VRRP version; default: vrrp_version of globals, 3 for IPv6"),
    "state": Option(choice("MASTER", "BACKUP"), None, "role to begin with; MASTER at priority 255"),
    "priority": Option(whole(1, 255), "100", "the highest becomes MASTER; 255: owner of the addresses"),
    "advert_int": Option(seconds("0.01", "255", 2), "1", "seconds between adverts"),
    "nopreempt": _switch("0", "leave a lower-priority MASTER in place"),
    "preempt": _switch("1", "the opposite of nopreempt"),
    "preempt_delay": Option(seconds("0", "1000"), "0", "wait before preempting"),
    "down_timer_adverts": Option(
        whole(1, 100), None, "missed adverts after which MASTER is down; default: vrrp_down_timer_adverts"
    ),
    "accept": _switch("1", "receive packets sent to the virtual addresses"),
    "no_accept": _switch("0", "the opposite of accept"),
    "strict_mode": _switch(None, "nothing that the RFC does not know; default: vrrp_strict"),
    "strict": _switch(None, "the same as strict_mode"),
    "auth_type": Option(choice("PASS", "AH"), None, "version 2: PASS"),
    "auth_pass": Option(PASSWORD, None, "version 2: up to 8 characters, not secret on the wire", secret=True),
    "mcast_dst_ip": Option(GROUP, None, "where adverts go; default: vrrp_mcast_group4 or 6"),
    "mcast_src_ip": Option(ADDRESS, None, "source of adverts; default: the interface's address"),
    "unicast_src_ip": Option(ADDRESS, None, "source of adverts to unicast peers"),
    "unicast_peer": Option(REFERENCE, None, "peer sections or addresses: adverts go there", many=True),
    "unicast_ttl": Option(whole(1, 255), "255", "TTL or hop limit of adverts to peers"),
    "check_unicast_src": _switch(None, "accept adverts of these peers only; default: as globals"),
    "unicast_min_ttl": Option(
        whole(1, 255), "255", "least TTL or hop limit of adverts from peers; lower for peers behind a router"
    ),
    "allow_src": Option(ADDRESS, None, "accept multicast adverts of these addresses only", many=True),
    "strangers": Option(
        choice("ignore", "follow"),
        None,
        "adverts of routers other than the Tandem peer while that is in step; default: ignore, and follow"
        " where unicast_peer or allow_src says who the routers are",
    ),
    "max_learned_interval": Option(
        seconds("0.01", "2550", 2), None, "longest interval that is learned; default: 10 times advert_int"
    ),
    "native_ipv6": _switch("0", "this instance speaks IPv6; default: as its first virtual address"),
    "virtual_ipaddress": Option(
        REFERENCE, None, "ipaddress sections, or '192.168.1.4/24 dev br-lan', advertised", many=True
    ),
    "virtual_ipaddress_excluded": Option(REFERENCE, None, "the same, not advertised", many=True),
    "virtual_routes": Option(
        REFERENCE, None, "route sections, or 'src A to default via B dev eth1 metric 5'", many=True
    ),
    "virtual_rules": Option(REFERENCE, None, "rule sections, or 'from A table 100 priority 50'", many=True),
    "snat": Option(
        Kind("0, 1 or one of the virtual addresses", str),
        None,
        "SNAT what leaves by the interface to a virtual address; 1 with a default route over it",
    ),
    "dhcp": _switch("0", "DHCP servers and RA daemons on the interface are heard while MASTER only"),
    "dhcp_tag": Option(NAME, None, "dnsmasq's tag of the network; default: the name of the UCI network"),
    "dhcp_network": Option(
        Kind("a prefix without host bits", lambda text: str(network(text))),
        None,
        "networks whose leases the routers share; default: those of the virtual addresses",
        many=True,
    ),
    "use_vmac": Option(
        Kind("0, 1 or a name for the new interface of at most 15 bytes", str),
        "0",
        "virtual MAC on a macvlan; 1: named vrrp.ID or vrrp6.ID",
    ),
    "vmac_xmit_base": _switch("0", "adverts leave by the interface itself, not by the macvlan"),
    "promote_secondaries": _switch("0", "removing an address keeps the others of its subnet"),
    "track_src_ip": _switch("1", "fault while unicast_src_ip or mcast_src_ip is not on this router"),
    "higher_prio_send_advert": _switch("1", "send one last advert before yielding to a better router"),
    "dont_track_primary": _switch("0", "ignore the state of the instance's own interface"),
    "v3_checksum_as_v2": _switch("0", "version 3 over IPv4: checksum without the pseudo-header"),
    **_TRACKS,
    **_garp("", ""),
    **_NOTIFY,
    "debug": NoEffect("no effect, as in keepalived: use log_level in globals"),
    "linkbeat_use_polling": _NETLINK,
    "skip_check_adv_addr": NoEffect("no effect: the addresses of every advert are checked"),
    "unicast_fault_no_peer": NoEffect("no effect: unicast options without a peer are an error"),
    "kernel_rx_buf_size": NoEffect("no effect: Tandem sizes its own buffers"),
    "lvs_sync_daemon_interface": _NO_LVS,
    **dict.fromkeys(
        (
            "vrf", "use_vmac_addr", "use_ipvlan", "old_unicast_checksum",
            "garp_extra_if", "lower_prio_no_advert",
        ),
        _NO,
    ),
}  # fmt: skip

SYNC_GROUP: Table = {
    "name": Option(NAME, None, "name of the group; default: the section's"),
    "group": Option(
        Kind("the names of vrrp_instance sections", str),
        None,
        "the instances that move together",
        many=True,
        required=True,
    ),
    **_TRACKS,
    **_NOTIFY,
    "global_tracking": NoEffect("no effect: what one member tracks always counts for the group"),
    "sync_group_tracking_weight": NoEffect("no effect: weights always count in a group"),
}

SCRIPT: Table = {
    "name": Option(NAME, None, "name of the script; default: the section's"),
    "script": Option(COMMAND, None, "the command; exit status 0 is up", required=True),
    "interval": Option(seconds("0.1", "86400"), "1", "seconds between two runs"),
    "timeout": Option(seconds("0.1", "86400"), None, "a run longer than this is down; default: interval"),
    "rise": Option(whole(1, 1000), "1", "runs in sequence that make it up"),
    "fall": Option(whole(1, 1000), "1", "runs in sequence that make it down"),
    "weight": Option(
        Kind("a whole number from -253 to 253, then maybe 'reverse'", syntax.weight),
        "0",
        "what it is worth to those that name no weight; 0: down is a fault",
    ),
    "direction": Option(choice("reverse", "noreverse"), None, "reverse: up counts as down"),
    "user": Option(USER, None, "user [group] that it runs as; default: script_user"),
    "init_fail": _switch("0", "down until it has been up"),
}

IPADDRESS: Table = {
    "name": Option(NAME, None, "what virtual_ipaddress calls it; default: the section's name"),
    "address": Option(Kind("an IP address with prefix length", interface), None, "", required=True),
    "device": Option(DEVICE, None, "default: the instance's interface"),
    "scope": Option(Kind("global, site, link or host", syntax.scope), "global", "ip-address(8)"),
    "label_suffix": Option(TEXT, None, "the label is device:suffix; default: vip"),
}

ROUTE: Table = {
    "name": Option(NAME, None, "what virtual_routes calls it; default: the section's name"),
    "address": Option(
        Kind("a prefix without host bits, or default", lambda text: _prefix(text)), None, "", required=True
    ),
    "src_addr": Option(ADDRESS, None, "preferred source address"),
    "gateway": Option(ADDRESS, None, "next router"),
    "device": Option(DEVICE, None, "default: the instance's interface"),
    "scope": Option(Kind("global, site, link or host", syntax.scope), None, "default: what fits"),
    "table": Option(Kind("main, local, default or a number", syntax.table), "main", "routing table"),
    "metric": Option(Kind("a whole number", syntax.metric), None, "lower is better"),
    "mtu": Option(Kind("a whole number", syntax.mtu), None, ""),
    "onlink": _switch("0", "the gateway is on the link even if no address says so"),
    "proto": Option(Kind("a known name or a number", syntax.protocol), None, "default: Tandem's own"),
    "blackhole": _switch("0", "discard packets to this prefix"),
}


def _prefix(text: str) -> str:
    return text if text == "default" else str(network(text))


def _word(text: str) -> str:
    if len(text.split()) != 1:
        raise ValueError
    return text


RULE_WORDS = (
    "from", "to", "iif", "oif", "fwmark", "tos", "priority", "table", "goto", "suppress_prefixlength",
)  # fmt: skip
RULE: Table = {
    "name": Option(NAME, None, "what virtual_rules calls it; default: the section's name"),
    **dict.fromkeys(("from", "to"), Option(WORD, None, "prefix or all")),
    **dict.fromkeys(("iif", "oif"), Option(DEVICE, None, "interface")),
    "fwmark": Option(WORD, None, "MARK or MARK/MASK"),
    "tos": Option(WORD, None, "type of service"),
    "not": _switch("0", "invert the match"),
    "priority": Option(WORD, None, "lower is looked at first"),
    "table": Option(WORD, None, "main, local, default or a number"),
    "action": Option(choice(*syntax.RULE_ACTIONS), None, "instead of a table"),
    "goto": Option(WORD, None, "priority of the rule to go on with"),
    "suppress_prefixlength": Option(WORD, None, "reject results this short or shorter"),
    "inet6": _switch("0", "IPv6, where no address says it"),
}

TRACK_INTERFACE: Table = {
    "name": Option(NAME, None, "what track_interface calls it; default: the section's name"),
    "value": Option(DEVICE, None, "the interface", required=True),
    "weight": Option(whole(-253, 253), "0", "priority it is worth; 0: down is a fault"),
    "direction": Option(choice("reverse", "noreverse"), "noreverse", "reverse: up counts as down"),
}

TRACK_SCRIPT: Table = {
    "name": Option(NAME, None, "what track_script calls it; default: the section's name"),
    "value": Option(NAME, None, "the vrrp_script's name", required=True),
    "weight": Option(whole(-253, 253), None, "default: the weight of the vrrp_script"),
    "direction": Option(choice("reverse", "noreverse"), None, "reverse: up counts as down"),
}

PEER: Table = {
    "name": Option(NAME, None, "what unicast_peer calls it; default: the section's name"),
    "address": Option(
        Kind("unicast IP addresses, each with maybe 'dev NAME' and 'src ADDRESS' after it", syntax.paths),
        None,
        "its addresses, the preferred one first: conntrack_sync uses all of them, unicast_peer one",
        many=True,
        required=True,
    ),
    "secret": Option(
        sync_values.SECRET, None, "of conntrack_sync for this peer alone; better in a file", secret=True
    ),
    "secret_file": Option(sync_values.SECRET_FILE, None, "file that holds that secret", secret=True),
    **dict.fromkeys(("min_ttl", "max_ttl"), Refused("not supported: unicast adverts may have any TTL")),
}

CONNTRACK_SYNC: Table = {
    "enabled": _switch("1", "replicate connections"),
    "peer": Option(
        Kind("peer sections, or addresses with maybe 'dev NAME' and 'src ADDRESS' after them", str),
        None,
        "the other routers; one that can be reached by several paths is a peer section",
        many=True,
        required=True,
    ),
    "source": Option(ADDRESS, None, "our address, for peers without dev and src"),
    "interface": Option(DEVICE, None, "the interface, for peers without dev and src"),
    "port": Option(whole(1, 65535), "3780", "TCP port, the same on all routers"),
    "max_hops": Option(
        whole(1, 255), "1", "how far away a peer that connects may be; 1: on the same link (hop limit 255)"
    ),
    "secret": Option(
        sync_values.SECRET, None, "the same on all routers; has key id 1; better in a file", secret=True
    ),
    "secret_file": Option(
        sync_values.SECRET_FILE, None, "file that holds the secret and that only root can read", secret=True
    ),
    "key": Option(
        sync_values.KEY, None, "more secrets, as ID:FILE: all of them are accepted", many=True, secret=True
    ),
    "key_id": Option(whole(1, 255), None, "the secret that this router uses; default: 1, or the only one"),
    "insecure": _switch("0", "no secret: whoever reaches the port can make and break connections"),
    "heartbeat": Option(seconds("0.01", "60"), "1", "seconds between heartbeats; three missed: it is dead"),
    "digest_interval": Option(seconds("1", "3600"), "10", "seconds between comparisons of the tables"),
    "stall_timeout": Option(
        seconds("0.1", "600"), "10", "seconds for a peer to answer before it is given up"
    ),
    "address": Option(
        sync_values.NETWORK, None, "replicate only what goes from or to these networks", many=True
    ),
    "ignore_address": Option(
        sync_values.NETWORK,
        None,
        "do not replicate connections from these networks, or with their real end there",
        many=True,
    ),
    "protocol": Option(sync_values.PROTOCOL, None, "replicate only these protocols", many=True),
    "ignore_protocol": Option(sync_values.PROTOCOL, None, "do not replicate these protocols", many=True),
    "tcp_state": Option(
        sync_values.STATE,
        None,
        "replicate TCP connections in these states only; default: in all. Without SYN_SENT, labels and"
        " what belongs to a helper's connection (FTP, SIP) may be lost",
        many=True,
    ),
    "zone": Option(sync_values.ZONE, None, "replicate only these conntrack zones", many=True),
    "local": _switch("0", "replicate the router's own connections too"),
    "limit_entries": Option(whole(1, 16_777_216), "262144", "connections held for the peers at most"),
    "limit_bytes": Option(sync_values.size("64K", "4G"), "64M", "memory for them at most"),
    "hold": Option(whole(1, 432_000), "3600", "seconds that they are held without a word from their router"),
    "queue_limit": Option(sync_values.size("64K", "1G"), "4M", "what waits for a slow peer at most"),
    "receive_buffer": Option(sync_values.size("4K", "1G"), "8M", "buffer for events from the kernel"),
    "preempt_sync_timeout": Option(
        seconds("0", "3600"), "30", "seconds that preemption waits until connections are replicated"
    ),
    "guarantee": Option(
        choice("none", "connection"),
        "none",
        "connection: hold the first answer of each new connection until a peer knows the connection",
    ),
    "guarantee_timeout": Option(seconds("0.001", "10"), "0.1", "seconds to hold it at most"),
    "stale_lag": Option(
        seconds("0", "3600"), "1", "behind or out of step for longer is replication_stale; 0: never"
    ),
    "stale_loss": Option(
        whole(0, 1_000_000_000), "1000", "records lost in a minute, above which it is; 0: never"
    ),
}

DHCP_GATEWAY: Table = {
    "leasefile": Option(PATH, None, "dnsmasq's lease file; default: as dnsmasq is configured"),
    "confdir": Option(PATH, None, "directory that dnsmasq reads; default: as dnsmasq is configured"),
    "restart": Option(COMMAND, "/etc/init.d/dnsmasq restart", "restarts dnsmasq, so that it reads leases"),
    "restart_timeout": Option(seconds("1", "300"), "30", "seconds that the restart may take"),
    "restart_delay": Option(
        seconds("0.05", "60"), "1", "seconds in which leases of the other router are gathered for a restart"
    ),
    "router": _switch("1", "clients get the virtual address as their router"),
    "dns": _switch("1", "and as their DNS server"),
    "replicate": _switch("1", "leases are replicated to the peers of conntrack_sync"),
}

SECTIONS: dict[str, Table] = {
    "globals": GLOBALS,
    "global_defs": GLOBALS,
    "vrrp_instance": INSTANCE,
    "vrrp_sync_group": SYNC_GROUP,
    "vrrp_script": SCRIPT,
    "ipaddress": IPADDRESS,
    "route": ROUTE,
    "rule": RULE,
    "track_interface": TRACK_INTERFACE,
    "track_script": TRACK_SCRIPT,
    "peer": PEER,
    "conntrack_sync": CONNTRACK_SYNC,
    "dhcp_gateway": DHCP_GATEWAY,
    "static_ipaddress": {"address": Option(REFERENCE, None, "ipaddress sections or addresses", many=True)},
    "static_routes": {"route": Option(REFERENCE, None, "route sections or routes", many=True)},
    "static_rules": {"rule": Option(REFERENCE, None, "rule sections or rules", many=True)},
}

REFUSED_SECTIONS: dict[str, str] = {
    **dict.fromkeys(
        ("virtual_server", "virtual_server_group", "real_server", "url", "SSL", "lvs"),
        "not supported: Tandem does no load balancing",
    ),
    **dict.fromkeys(("bfd_instance", "track_bfd"), _NO_BFD.reason),
    **dict.fromkeys(
        ("track_file", "vrrp_track_file", "track_process", "vrrp_track_process"), _NO_FILE.reason
    ),
    "track_group": "not supported: static addresses, routes and rules are always kept in place",
    "garp_group": "not supported",
    "interface_up_down_delays": "not supported: use a track_script with rise and fall",
    "linkbeat_interfaces": "not supported: link state always comes from netlink",
}
