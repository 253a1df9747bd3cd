# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes of the kernel's features, which change nothing.

A feature may be missing on a backup for months, and nobody notices before the takeover.
"""

from __future__ import annotations

import errno
import socket
import struct
import subprocess

from tandem.config.schema import Config
from tandem.effects.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, messages
from tandem.nlmsg import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLMSG_ERROR, attribute, request
from tandem.programs import PATH

CONNTRACK = "conntrack netlink (kmod-nf-conntrack-netlink)"
MACVLAN = "macvlan (kmod-macvlan)"
NFT_NAT = "source NAT with nftables (kmod-nft-nat)"

_NEWLINK = 16
_IFLA_LINKINFO, _IFLA_INFO_KIND = 18, 1
_NFNL_SUBSYS_CTNETLINK, _IPCTNL_MSG_CT_GET_STATS_CPU = 1, 4  # nfnetlink.h, nfnetlink_conntrack.h
_NFT = "/usr/sbin/nft"
_RULES = """
table inet tandem_doctor {
    chain postrouting {
        type nat hook postrouting priority 99;
        meta nfproto ipv4 oifname "none" iif != 0 snat ip to 192.0.2.1
    }
}
"""


def missing(config: Config) -> tuple[str, ...]:
    """Return the kernel features that the configuration needs and the kernel lacks."""
    found = []
    if config.conntrack_sync and not has_subsystem(_NFNL_SUBSYS_CTNETLINK, _IPCTNL_MSG_CT_GET_STATS_CPU):
        found.append(CONNTRACK)
    macvlan = any(instance.use_vmac for instance in config.instances) or any(f.device for f in config.follows)
    if macvlan and not has_link_kind("macvlan"):
        found.append(MACVLAN)
    if any(instance.snat for instance in config.instances) and not has_rules(_RULES):
        found.append(NFT_NAT)
    return tuple(found)


def has_subsystem(number: int, kind: int) -> bool:
    """Return whether nfnetlink has the subsystem or can load it (nfnetlink_rcv_msg; otherwise EINVAL)."""
    return _errno(NETLINK_NETFILTER, number << 8 | kind, NLM_F_DUMP, bytes(4)) != errno.EINVAL


def has_link_kind(kind: str) -> bool:
    """Return whether links of this kind can be made: the kernel looks for the kind first (rtnl_newlink).

    The request names no base interface, so that nothing is ever made.
    """
    name = attribute(_IFLA_INFO_KIND, kind.encode() + b"\0")
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(_IFLA_LINKINFO, name)
    return _errno(NETLINK_ROUTE, _NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, body) != errno.EOPNOTSUPP


def has_rules(rules: str) -> bool:
    """Return whether the kernel accepts these rules (`nft --check` changes nothing); True without nft."""
    try:
        argv = [_NFT, "-c", "-f", "-"]
        done = subprocess.run(argv, input=rules.encode(), capture_output=True, timeout=10, env={"PATH": PATH})
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.returncode == 0


def _errno(protocol: int, kind: int, flags: int, body: bytes) -> int:
    """Send a request and return the errno of the answer; 0: no error."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as sock:
            sock.settimeout(2)
            sock.send(request(kind, body, flags, 1))
            for answer, _, _, payload in messages(sock.recv(65536)):
                if answer == NLMSG_ERROR:
                    return int(-struct.unpack_from("=i", payload)[0])
                return 0
    except OSError as error:
        return error.errno or errno.EIO
    return 0
