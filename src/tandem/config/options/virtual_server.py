# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the sections `virtual_server` and `real_server`, by the names of OpenWrt's keepalived package."""

from __future__ import annotations

from tandem.config.option import NEXT, NoEffect, Option, Refused, Table
from tandem.config.options.common import name
from tandem.config.values import ADDRESS, SWITCH, Kind, choice, whole

VIRTUAL_SERVERS_MAX, REAL_SERVERS_MAX = 64, 128
SERVERS_OF_ONE = 32  # real servers of one virtual server

_ALGORITHMS = ("sh", "rr", "wrr")
_CHECK = Refused("not supported: write a config check, and name it in list check")
_CHECKS = Kind("the names of check sections", str, type="reference")


def _nat(text: str) -> str:
    if text.upper() != "NAT":
        raise ValueError
    return "NAT"


def _enabled(text: str) -> Option:
    return Option(SWITCH, "1", text, since=NEXT)


VIRTUAL_SERVER: Table = {
    "name": name("Status and log call the virtual server by this.", "name"),
    "enabled": _enabled("0: the section counts as if it were not there."),
    "ipaddr": Option(
        ADDRESS, None, "Clients connect to this address, which is mostly a virtual one.", "address",
        required=True, since=NEXT,
    ),
    "port": Option(whole(1, 65535), None, "Clients connect to this port.", "port", required=True, since=NEXT),
    "protocol": Option(choice("tcp", "udp"), "tcp", "The protocol.", "protocol", since=NEXT),
    "lb_algo": Option(
        choice(*_ALGORITHMS),
        "sh",
        "sh: the client's address chooses the real server, so that a client stays with one; rr, wrr: each"
        " connection gets the next one. Weights count for all of them.",
        "algorithm",
        since=NEXT,
    ),
    "real_server": Option(
        Kind("the names of real_server sections", str, type="reference"),
        None,
        "The servers that connections go to.",
        "servers",
        many=True,
        required=True,
        since=NEXT,
    ),
    "sorry_server_ip": Option(
        ADDRESS, None, "Connections go to this address when no real server is up. Default: they are"
        " rejected.", "sorry_address", since=NEXT,
    ),
    "sorry_server_port": Option(
        whole(0, 65535), "0", "They go to this port of it; 0: to the same port.", "sorry_port", since=NEXT
    ),
    "masquerade": Option(
        SWITCH,
        "0",
        "1: real servers see the address of the virtual server instead of the client's. That is needed when"
        " clients and real servers are on one network, because answers must come back by the router.",
        "masquerade",
        since=NEXT,
    ),
    "lb_kind": Option(
        Kind("NAT: Tandem balances with NAT only", _nat), "NAT", "The way to the real servers.", since=NEXT
    ),
    "fwmark": Refused("not supported: give ipaddr and port"),
    "persistence_timeout": NoEffect("no effect: with lb_algo sh a client always stays with one server"),
    "persistence_granularity": Refused("not supported: lb_algo sh goes by the whole address"),
    "delay_loop": NoEffect("no effect: each check has its own interval"),
    "virtualhost": NoEffect("no effect: set virtualhost of the check"),
}  # fmt: skip

REAL_SERVER: Table = {
    "name": name("virtual_server names the section by this.", "name"),
    "enabled": _enabled("0: no connection goes to the server."),
    "ipaddr": Option(ADDRESS, None, "The address of the server.", "address", required=True, since=NEXT),
    "port": Option(
        whole(0, 65535), "0", "The port of the server; 0: that of the virtual server.", "port", since=NEXT
    ),
    "weight": Option(
        whole(0, 100), "1", "The share of the server, as against the others; 0: none.", "weight", since=NEXT
    ),
    "check": Option(
        _CHECKS,
        None,
        "New connections go to the server while all of these are up. A check without host and port asks the"
        " server itself.",
        "checks",
        many=True,
        since=NEXT,
    ),
    **dict.fromkeys(
        (
            "connect_port", "connect_timeout", "connect_ip", "misc_path", "misc_timeout", "url",
            "nb_get_retry", "retry", "delay_before_retry", "virtualhost", "helo_name",
        ),
        _CHECK,
    ),
}  # fmt: skip
