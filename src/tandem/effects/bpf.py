# SPDX-License-Identifier: GPL-2.0-or-later
"""A classic BPF program that decides in the kernel which rtnetlink notifications matter.

* RTM_NEWADDR: not when IFA_PROTO is Tandem's or the sender is Tandem (that is our refresh).
* RTM_DELROUTE: when its protocol is one of ours.
* RTM_NEWROUTE: when it replaced another one (NLM_F_REPLACE) and netifd, a person or a DHCP client
  may have sent it: that may have hit one of ours, and IPv4 says no other word about it. Routing
  daemons are left out, for they never stop.
* RTM_NEWRULE: never.
* Everything else: yes.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection

_SO_ATTACH_FILTER = 26
_LD_W_ABS, _LD_H_ABS, _LD_B_ABS, _LD_B_IND = 0x20, 0x28, 0x30, 0x50
_LD_IMM, _LDX_IMM, _TAX, _RET = 0x00, 0x01, 0x07, 0x06
_JA, _JEQ, _JGT, _JSET = 0x05, 0x15, 0x25, 0x45
_NLATTR = 0xFFFFF000 + 12  # SKF_AD_OFF + SKF_AD_NLATTR: offset of attribute X, searched from A on; 0: none

_NLMSG_TYPE, _NLMSG_FLAGS, _NLMSG_PID = 4, 6, 12  # offsets in struct nlmsghdr
_RTM_PROTOCOL = 16 + 5  # offset of rtm_protocol
_IFA_ATTRIBUTES = 16 + 8  # offset of the first attribute of an address
_IFA_PROTO = 11
_RTM_NEWADDR, _RTM_NEWROUTE, _RTM_DELROUTE, _RTM_NEWRULE = 20, 24, 25, 32
_NLM_F_REPLACE = 0x100
_RTPROT_STATIC, _RTPROT_DHCP = 4, 16
_ALL = 0xFFFFFFFF

# (code, operand, target when true, target when false); targets are labels, "" the next one
_Instruction = tuple[int, int, str, str]


def attach_filter(
    monitor: socket.socket, protocols: Collection[int], address_protocol: int, ignore_port: int
) -> None:
    """Let the kernel queue only the notifications that matter on this rtnetlink socket.

    `protocols` are the rtm_protocols of our routes, `address_protocol` the IFA_PROTO of our
    addresses, `ignore_port` the port id of the socket that refreshes them (0: none).
    """
    program = _assemble(_program(protocols, address_protocol, ignore_port))
    memory = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog; native alignment decides where the pointer stands. The kernel copies.
    monitor.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(memory))
    )


def _program(
    protocols: Collection[int], address_protocol: int, ignore_port: int
) -> list[tuple[str, _Instruction]]:
    return [
        ("", (_LD_H_ABS, _NLMSG_TYPE, "", "")),
        ("", (_JEQ, _swap16(_RTM_NEWADDR), "address", "")),
        ("", (_JEQ, _swap16(_RTM_DELROUTE), "deleted", "")),
        ("", (_JEQ, _swap16(_RTM_NEWROUTE), "added", "")),
        ("", (_JEQ, _swap16(_RTM_NEWRULE), "drop", "accept")),
        ("address", (_LD_W_ABS, _NLMSG_PID, "", "")),
        ("", (_JEQ, _swap32(ignore_port), "drop" if ignore_port else "", "")),
        ("", (_LD_IMM, _IFA_ATTRIBUTES, "", "")),
        ("", (_LDX_IMM, _IFA_PROTO, "", "")),
        ("", (_LD_W_ABS, _NLATTR, "", "")),
        ("", (_JEQ, 0, "accept", "")),
        ("", (_TAX, 0, "", "")),
        ("", (_LD_B_IND, 4, "", "")),
        ("", (_JEQ, address_protocol, "drop", "accept")),
        ("deleted", (_LD_B_ABS, _RTM_PROTOCOL, "", "")),
        *(("", (_JEQ, protocol, "accept", "")) for protocol in sorted(set(protocols))),
        ("", (_JA, 0, "drop", "")),
        ("added", (_LD_H_ABS, _NLMSG_FLAGS, "", "")),
        ("", (_JSET, _swap16(_NLM_F_REPLACE), "", "drop")),
        ("", (_LD_B_ABS, _RTM_PROTOCOL, "", "")),
        ("", (_JEQ, _RTPROT_DHCP, "accept", "")),
        ("", (_JGT, _RTPROT_STATIC, "drop", "accept")),
        ("drop", (_RET, 0, "", "")),
        ("accept", (_RET, _ALL, "", "")),
    ]


def _assemble(program: list[tuple[str, _Instruction]]) -> bytes:
    """struct sock_filter[]: jumps are counted from the next instruction on."""
    places = {label: place for place, (label, _) in enumerate(program) if label}
    code = bytearray()
    for place, (_, (operation, operand, when_true, when_false)) in enumerate(program):
        true, false = (places[label] - place - 1 if label else 0 for label in (when_true, when_false))
        if operation == _JA:
            operand, true = true, 0
        code += struct.pack("=HBBI", operation, true, false, operand)
    return bytes(code)


def _swap16(value: int) -> int:
    """BPF loads are big-endian, netlink headers native."""
    return int.from_bytes(struct.pack("=H", value), "big")


def _swap32(value: int) -> int:
    return int.from_bytes(struct.pack("=I", value), "big")
