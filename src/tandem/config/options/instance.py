# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the sections `vrrp_instance` and `vrrp_sync_group`."""

from __future__ import annotations

from dataclasses import replace

from tandem.config.option import NEXT, ROLE, NoEffect, Option, Table, switch
from tandem.config.options.common import NETLINK, NO, NO_LVS, NOTIFY, REFERENCE, TRACKS, VERSION, garp, name
from tandem.config.options.follow import FOLLOWED
from tandem.config.syntax.address import write_address
from tandem.config.syntax.route import write_route
from tandem.config.syntax.rule import write_rule
from tandem.config.values import (
    ADDRESS,
    DEVICE,
    GROUP,
    NAME,
    PASSWORD,
    Kind,
    choice,
    network,
    seconds,
    whole,
)

INSTANCE: Table = {
    "name": name("The name of the instance.", "name"),
    "interface": Option(
        DEVICE,
        None,
        "Adverts leave by this network (lan) or device (br-lan).",
        "interface",
        required=True,
        reload=ROLE,
    ),
    "virtual_router_id": Option(
        whole(1, 255),
        None,
        "The number of the virtual router, the same on all its routers and no other's on the link.",
        "virtual_router_id",
        required=True,
        reload=ROLE,
    ),
    "version": Option(
        VERSION,
        None,
        "The version of VRRP. Default: vrrp_version of globals; IPv6 is always 3.",
        "version",
        reload=ROLE,
    ),
    "native_ipv6": replace(
        switch(
            "0",
            "The instance speaks IPv6 whatever its first virtual address is.",
            "family",
            lambda found: found.family == 6,
        ),
        reload=ROLE,
    ),
    "state": Option(
        choice("MASTER", "BACKUP"),
        None,
        "The instance begins in this role. Default: MASTER at priority 255, otherwise BACKUP.",
        shown=lambda found: "MASTER" if found.initial_master else "BACKUP",
    ),
    "priority": Option(
        whole(1, 255),
        "100",
        "The router with the highest priority becomes MASTER; 255: the owner of the addresses.",
        "priority",
    ),
    "advert_int": Option(
        seconds("0.01", "255", 2),
        "1",
        "The MASTER sends adverts in this interval: whole seconds in version 2, at most 40.95 in version 3.",
        "advert_int_cs",
    ),
    "nopreempt": switch(
        "0", "The instance leaves a MASTER of lower priority in place.", shown=lambda found: not found.preempt
    ),
    "preempt": switch("1", "This is the opposite of nopreempt."),
    "preempt_delay": Option(
        seconds("0", "1000"),
        "0",
        "The instance waits so long before it preempts.",
        "preempt_delay_ms",
    ),
    "down_timer_adverts": Option(
        whole(1, 100),
        None,
        "The MASTER is down after so many missed adverts; the same on all routers. Default:"
        " vrrp_down_timer_adverts.",
        "down_timer_adverts",
        since=NEXT,
    ),
    "accept": switch(
        "1", "The MASTER accepts packets to the virtual addresses.", field="accept"
    ),
    "no_accept": switch("0", "This is the opposite of accept."),
    "strict_mode": switch(
        None, "The instance does nothing that the RFC does not know. Default: vrrp_strict of globals."
    ),
    "strict": switch(None, "This is another name of strict_mode."),
    "auth_type": Option(
        choice("PASS", "AH"),
        None,
        "The authentication of version 2; Tandem has PASS only.",
        shown=lambda found: None if found.auth_pass is None else "PASS",
    ),
    "auth_pass": Option(
        PASSWORD,
        None,
        "The password of version 2; 8 bytes count, and everybody on the link can read it.",
        field="auth_pass",
        secret=True,
    ),
    "unicast_src_ip": Option(
        ADDRESS,
        None,
        "Adverts to unicast peers leave from this address.",
        field="unicast_src_ip",
    ),
    "unicast_peer": Option(
        REFERENCE,
        None,
        "Adverts go to these peer sections or addresses and not to the multicast group.",
        field="unicast_peers",
        many=True,
    ),
    "unicast_ttl": Option(
        whole(1, 255),
        "255",
        "Adverts to unicast peers leave with this TTL or hop limit.",
        "unicast_ttl",
        shown=lambda found: found.unicast_ttl if found.unicast_peers else None,
    ),
    "unicast_min_ttl": Option(
        whole(1, 255),
        "255",
        "Adverts of unicast peers have at least this TTL or hop limit; lower it for peers behind a router.",
        "unicast_min_ttl",
        shown=lambda found: found.unicast_min_ttl if found.unicast_peers else None,
        since=NEXT,
    ),
    "mcast_dst_ip": Option(
        GROUP,
        None,
        "Adverts go to this multicast group. Default: vrrp_mcast_group4 or vrrp_mcast_group6 of globals.",
        shown=lambda found: None if found.unicast_peers else found.multicast_group,
    ),
    "mcast_src_ip": Option(
        ADDRESS,
        None,
        "Multicast adverts leave from this address. Default: the first address of the interface.",
        field="mcast_src_ip",
    ),
    "check_unicast_src": switch(
        None,
        "Adverts of other addresses than the unicast peers' are refused. Default: vrrp_check_unicast_src.",
        field="check_unicast_src",
    ),
    "allow_src": Option(
        ADDRESS,
        None,
        "Multicast adverts are accepted from these addresses only.",
        field="allow_src",
        many=True,
        since=NEXT,
    ),
    "strangers": Option(
        choice("ignore", "follow"),
        None,
        "What happens to adverts of routers other than the Tandem peer while the peer is in step. Default:"
        " ignore; follow where unicast_peer or allow_src says who the routers are.",
        field="strangers",
        since=NEXT,
    ),
    "max_learned_interval": Option(
        seconds("0.01", "2550", 2),
        None,
        "Version 3 learns no longer interval than this from the MASTER. Default: 10 times advert_int.",
        field="max_learned_interval_cs",
        since=NEXT,
    ),
    "use_vmac": Option(
        Kind("0, 1 or a name for the new interface of at most 15 bytes", str),
        "0",
        "The addresses stand on a macvlan with the virtual MAC; 1: its name is vrrp.ID or vrrp6.ID.",
        field="use_vmac",
        shown=lambda found: found.use_vmac or "0",
    ),
    "vmac_xmit_base": switch(
        "0",
        "Adverts leave by the interface itself, not by the macvlan.",
        field="vmac_xmit_base",
    ),
    "v3_checksum_as_v2": switch(
        "0",
        "Version 3 over IPv4 has a checksum without the pseudo-header, as old routers expect it.",
        field="v3_checksum_as_v2",
    ),
    "virtual_ipaddress": Option(
        replace(REFERENCE, write=write_address),
        None,
        "Virtual addresses, which adverts carry: ipaddress sections, or '192.168.1.4/24 dev br-lan'.",
        field="virtual_addresses",
        many=True,
    ),
    "virtual_ipaddress_excluded": Option(
        replace(REFERENCE, write=write_address),
        None,
        "Virtual addresses that adverts do not carry.",
        field="excluded_addresses",
        many=True,
    ),
    "virtual_routes": Option(
        replace(REFERENCE, write=write_route),
        None,
        "Routes of the MASTER: route sections, or 'src A to default via B dev eth1 metric 5'.",
        field="routes",
        many=True,
    ),
    "virtual_rules": Option(
        replace(REFERENCE, write=write_rule),
        None,
        "Policy rules of the MASTER: rule sections, or 'from A table 100 priority 50'.",
        field="rules",
        many=True,
    ),
    "dhcp": switch(
        "0",
        "Only the MASTER's DHCP server and router advertisements are heard on the interface.",
        "dhcp",
        lambda found: found.dhcp or None,
    ),
    "dhcp_tag": Option(
        NAME,
        None,
        "dnsmasq's tag of the network. Default: the name of the network in /etc/config/network.",
        field="dhcp_tag",
    ),
    "dhcp_network": Option(
        Kind("a prefix without host bits", lambda text: str(network(text)), type="network"),
        None,
        "The routers share the leases of these networks. Default: the networks of the virtual addresses.",
        field="dhcp_networks",
        many=True,
    ),
    "snat": Option(
        Kind("0, 1 or one of the virtual addresses", str),
        None,
        "Packets that leave by the interface get this virtual address as source; 1: the first one. Default:"
        " 1 with a default route over the interface, otherwise 0.",
        field="snat",
        shown=lambda found: found.snat or "0",
    ),
    "track_src_ip": replace(
        switch("1", "The instance is in fault while this router lacks unicast_src_ip or mcast_src_ip."),
        field="track_src_ip",
        since=NEXT,
    ),
    "higher_prio_send_advert": replace(
        switch("1", "The MASTER sends one last advert before it yields to a better router."),
        field="higher_prio_send_advert",
        since=NEXT,
    ),
    "dont_track_primary": switch(
        "0",
        "The instance ignores whether its own interface is up.",
        shown=lambda found: not found.track_primary,
    ),
    **TRACKS,
    "promote_secondaries": switch(
        "0", "When an address is removed, the kernel keeps the others of its subnet.", "promote_secondaries"
    ),
    "follow": replace(FOLLOWED, help=f"{FOLLOWED.help} An instance of a group lists none: its group does."),
    **garp(""),
    **NOTIFY,
    "debug": NoEffect("no effect, as in keepalived: use log_level in globals"),
    "linkbeat_use_polling": NETLINK,
    "skip_check_adv_addr": NoEffect("no effect: the addresses of every advert are checked"),
    "unicast_fault_no_peer": NoEffect("no effect: unicast options without a peer are an error"),
    "kernel_rx_buf_size": NoEffect("no effect: Tandem sizes its own buffers"),
    "lvs_sync_daemon_interface": NO_LVS,
    **dict.fromkeys(
        (
            "vrf", "use_vmac_addr", "use_ipvlan", "old_unicast_checksum",
            "garp_extra_if", "lower_prio_no_advert",
        ),
        NO,
    ),
}  # fmt: skip

SYNC_GROUP: Table = {
    "name": name("The name of the group.", "name"),
    "group": Option(
        Kind("the names of vrrp_instance sections", str, type="reference"),
        None,
        "These instances change their role together.",
        field="members",
        many=True,
        required=True,
    ),
    "follow": FOLLOWED,
    **TRACKS,
    **NOTIFY,
    "global_tracking": NoEffect("no effect: what one member tracks always counts for the group"),
    "sync_group_tracking_weight": NoEffect("no effect: weights always count in a group"),
}
