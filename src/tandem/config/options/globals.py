# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the section `globals`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tandem.config.option import NEXT, SESSION, START, NoEffect, Option, Refused, Table, switch
from tandem.config.options.common import NETLINK, NO, NO_LVS, NO_MAIL, VERSION, garp
from tandem.config.options.witness import QUORUM
from tandem.config.values import PATH, SWITCH, TEXT, USER, Kind, choice, multicast_group, seconds, whole

_OWN_NFT = Refused("not supported: Tandem filters and translates in an nftables table of its own")
_NO_FIFO = Refused("not supported: use a notify script, or ubus")
_ALWAYS = NoEffect("no effect: Tandem always works this way")


def _lifetime(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else -1
    if number == 0 or 2 <= number <= 3600:
        return number
    raise ValueError


_SOME_INTERVAL = seconds("0.01", "10")
_INTERVAL = replace(
    _SOME_INTERVAL,
    allowed=f"0 (off) or {_SOME_INTERVAL.allowed}",
    convert=lambda text: 0 if text == "0" else _SOME_INTERVAL.convert(text),
    low="0",
)


def _user(found: Any) -> tuple[str | None, str | None] | None:
    return (found.script_user, found.script_group) if found.script_user else None


GLOBALS: Table = {
    "enabled": replace(switch("1", "The service starts the daemon.", "enabled"), reload=START),
    "router_id": Option(
        TEXT, "", "Logs, status and peers call this router by this name. Default: the host name.", "router_id"
    ),
    "vrrp_startup_delay": Option(
        seconds("0", "3600"),
        "0",
        "The router takes part in elections so long after the daemon has started.",
        "startup_delay_ms",
        reload=START,
    ),
    "address_lifetime": Option(
        Kind(
            "0 (off) or a whole number of seconds from 2 to 3600",
            _lifetime,
            type="integer",
            unit="s",
            low="0",
            high="3600",
        ),
        "3",
        "Dead man's switch: the kernel removes virtual addresses so long after the daemon hangs; 0: never.",
        "address_lifetime_s",
    ),
    "vrrp_rt_priority": Option(
        whole(0, 99),
        "50",
        "The daemon has this SCHED_FIFO priority; 0: ordinary scheduling.",
        "rt_priority",
        reload=START,
    ),
    "vrrp_no_swap": Option(SWITCH, "1", "The daemon's memory is locked.", "no_swap", reload=START),
    "script_user": Option(
        USER, None, "Scripts run as this user, and group. Default: root.", shown=_user
    ),
    "damping_changes": Option(
        whole(0, 1000),
        "5",
        "A group that changes its role so often within damping_time does not preempt until it has rested;"
        " 0: off.",
        "damping_changes",
        since=NEXT,
    ),
    "damping_time": Option(
        seconds("1", "86400"),
        "60",
        "damping_changes counts changes within this time.",
        "damping_time_ms",
        since=NEXT,
    ),
    "allow_upgrade": replace(
        switch(
            "0",
            "A peer with a secret may have this router upgrade Tandem's packages from its own feeds, and hand"
            " over before (`tandem upgrade` on the peer).",
            "allow_upgrade",
        ),
        reload=SESSION,
        since=NEXT,
    ),
    "history_file": Option(
        PATH,
        None,
        "The history of `tandem history` is kept in this file over a reboot. It is written at most every ten"
        " minutes. Default: a reboot ends the history.",
        "history_file",
        since=NEXT,
    ),
    "heartbeat_interval": Option(
        _INTERVAL,
        "0.05",
        "Peers with a secret get an authenticated datagram in this interval, by the channel's paths and by"
        " each interface of an instance (UDP, the channel's port); 0: none, VRRP's timers alone decide.",
        "heartbeat_interval_ms",
        since=NEXT,
    ),
    "heartbeat_miss": Option(
        whole(2, 100),
        "3",
        "A peer is dead when it misses so many heartbeats on every path; the best backup takes over at once.",
        "heartbeat_miss",
        since=NEXT,
    ),
    "fault_policy": Option(
        choice("compare", "strict"),
        "compare",
        "A tracked interface or script is down, and the peer, as its heartbeats say, is no better. compare:"
        " this router keeps the role, and takes it when nobody else does; strict: it is in FAULT, as with"
        " keepalived.",
        "fault_policy",
        since=NEXT,
    ),
    "partition_policy": Option(
        choice("hold", "split"),
        "hold",
        "An interface is silent, but a peer is active as its heartbeats say. hold: this router stays BACKUP;"
        " split: it becomes MASTER as well.",
        "partition_policy",
        since=NEXT,
    ),
    **QUORUM,
    "log_level": Option(
        choice("error", "warning", "info", "debug"),
        "info",
        "Messages of this level and above are logged.",
        "log_level",
    ),
    "vrrp_version": Option(VERSION, "2", "IPv4 instances speak this version; IPv6 is always version 3."),
    "vrrp_mcast_group4": Option(multicast_group(4), "224.0.0.18", "IPv4 adverts go to this group."),
    "vrrp_mcast_group6": Option(multicast_group(6), "ff02::12", "IPv6 adverts go to this group."),
    "vrrp_strict": switch(
        "0", "Instances do nothing that the RFC does not know: no password, no unicast, no accept mode."
    ),
    "vrrp_down_timer_adverts": Option(
        whole(1, 100), "3", "This is the default of down_timer_adverts.", since=NEXT
    ),
    "vrrp_min_garp": switch("0", "Each address gets one gratuitous ARP, and there is no second burst."),
    "vrrp_check_unicast_src": switch("1", "This is the default of check_unicast_src."),
    **garp("vrrp_"),
    "alt_config_file": Refused("not supported: Tandem reads UCI only; write its settings here"),
    "dynamic_interfaces": _ALWAYS,
    "vrrp_higher_prio_send_advert": _ALWAYS,
    "linkbeat_use_polling": NETLINK,
    "process_names": NoEffect("no effect: the daemon is always called tandemd"),
    "enable_script_security": NoEffect("no effect: Tandem always warns of scripts that others may write to"),
    "vrrp_skip_check_adv_addr": NoEffect("no effect: the addresses of every advert are checked"),
    "default_interface": Refused("not supported: write the device into each address and route"),
    "vrrp_priority": Refused("not supported: use vrrp_rt_priority"),
    **dict.fromkeys(
        (
            "notification_email", "notification_email_from", "smtp_server", "smtp_helo_name",
            "smtp_connect_timeout", "smtp_alert", "smtp_alert_vrrp", "smtp_alert_checker", "no_email_faults",
        ),
        NO_MAIL,
    ),
    **dict.fromkeys(
        (
            "vrrp_iptables", "vrrp_ipsets", "nftables", "nftables_priority", "nftables_counters",
            "nftables_ifindex",
        ),
        _OWN_NFT,
    ),
    **dict.fromkeys(
        ("vrrp_notify_fifo", "vrrp_notify_fifo_script", "notify_fifo", "notify_fifo_script"), _NO_FIFO
    ),
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
        NO,
    ),
    **dict.fromkeys(
        ("lvs_sync_daemon", "lvs_timeouts", "lvs_flush", "lvs_flush_on_stop", "enable_snmp_checker"), NO_LVS
    ),
}  # fmt: skip
