# SPDX-License-Identifier: GPL-2.0-or-later
"""Classic BPF programs that decide in the kernel which netlink notifications matter.

This module has the assembler and the program for rtnetlink. The program for conntrack's events is in
`tandem.conntrack.filter`, the one for adverts in `tandem.effects.reception`. These notifications of rtnetlink
wake the daemon:

* RTM_NEWADDR: not when IFA_PROTO is Tandem's or the sender is Tandem (that is our refresh).
* RTM_DELROUTE: when its protocol is one of ours.
* RTM_NEWROUTE: when it replaced another one (NLM_F_REPLACE) and netifd, a person or a DHCP client
  may have sent it. It may have replaced one of ours, and for IPv4 there is no other notification.
  Routing daemons are left out, because they change routes all the time.
* RTM_NEWRULE: never.
* All other notifications: yes.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection

from tandem.nlmsg import NLM_F_REPLACE

_SO_ATTACH_FILTER = 26

# linux/bpf_common.h. ABS loads from the operand, IND from the operand + X; all are big-endian.
LD_W_ABS, LD_H_ABS, LD_B_ABS, LD_W_IND, LD_H_IND, LD_B_IND = 0x20, 0x28, 0x30, 0x40, 0x48, 0x50
LD_LEN, LDX_IP_HEADER, SUB_X = 0x80, 0xB1, 0x1C  # X: length of the IPv4 header at the operand
NETWORK = 0xFFF00000  # SKF_NET_OFF: ABS loads from here on count from the IP header
LD_IMM, LD_MEM, LDX_IMM, ST, TAX, AND, RET = 0x00, 0x60, 0x01, 0x02, 0x07, 0x54, 0x06
JA, JEQ, JGT, JGE, JSET = 0x05, 0x15, 0x25, 0x35, 0x45
# SKF_AD_OFF + SKF_AD_NLATTR: offset of attribute X, searched from A on (NEST: inside of attribute A); 0: none
NLATTR, NLATTR_NEST = 0xFFFFF000 + 12, 0xFFFFF000 + 16
RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM: a random number
ALL = 0xFFFFFFFF  # RET: the whole message

_NLMSG_TYPE, _NLMSG_FLAGS, _NLMSG_PID = 4, 6, 12  # offsets in struct nlmsghdr
_RTM_PROTOCOL = 16 + 5  # offset of rtm_protocol
_IFA_ATTRIBUTES = 16 + 8  # offset of the first attribute of an address
_IFA_PROTO = 11
_RTM_NEWADDR, _RTM_NEWROUTE, _RTM_DELROUTE, _RTM_NEWRULE = 20, 24, 25, 32
_RTPROT_STATIC, _RTPROT_DHCP = 4, 16

# (code, operand, target when true, target when false); targets are labels, "" the next one
Instruction = tuple[int, int, str, str]
Program = list[tuple[str, Instruction | None]]
"""Labels ("": none) and what they stand before; None is the next instruction. Conditional jumps reach over
255 instructions, JA over all.
"""


def attach_filter(
    monitor: socket.socket, protocols: Collection[int], address_protocol: int, ignore_port: int
) -> None:
    """Let the kernel queue only the notifications that matter on this rtnetlink socket.

    `protocols` are the rtm_protocols of our routes, `address_protocol` the IFA_PROTO of our
    addresses, `ignore_port` the port id of the socket that refreshes them (0: none).
    """
    attach(monitor, assemble(_program(protocols, address_protocol, ignore_port)))


def attach(receiver: socket.socket, program: bytes) -> None:
    """Filter what `receiver` gets from now on, instead of any filter before.

    OSError: ENOMEM when the program is too long for net.core.optmem_max, EINVAL when it is no program.
    """
    memory = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog; native alignment decides where the pointer stands. The kernel copies.
    receiver.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(memory))
    )


def _program(protocols: Collection[int], address_protocol: int, ignore_port: int) -> Program:
    return [
        ("", (LD_H_ABS, _NLMSG_TYPE, "", "")),
        ("", (JEQ, swap16(_RTM_NEWADDR), "address", "")),
        ("", (JEQ, swap16(_RTM_DELROUTE), "deleted", "")),
        ("", (JEQ, swap16(_RTM_NEWROUTE), "added", "")),
        ("", (JEQ, swap16(_RTM_NEWRULE), "drop", "accept")),
        ("address", (LD_W_ABS, _NLMSG_PID, "", "")),
        ("", (JEQ, swap32(ignore_port), "drop" if ignore_port else "", "")),
        ("", (LD_IMM, _IFA_ATTRIBUTES, "", "")),
        ("", (LDX_IMM, _IFA_PROTO, "", "")),
        ("", (LD_W_ABS, NLATTR, "", "")),
        ("", (JEQ, 0, "accept", "")),
        ("", (TAX, 0, "", "")),
        ("", (LD_B_IND, 4, "", "")),
        ("", (JEQ, address_protocol, "drop", "accept")),
        ("deleted", (LD_B_ABS, _RTM_PROTOCOL, "", "")),
        *(("", (JEQ, protocol, "accept", "")) for protocol in sorted(set(protocols))),
        ("", (JA, 0, "drop", "")),
        ("added", (LD_H_ABS, _NLMSG_FLAGS, "", "")),
        ("", (JSET, swap16(NLM_F_REPLACE), "", "drop")),
        ("", (LD_B_ABS, _RTM_PROTOCOL, "", "")),
        ("", (JEQ, _RTPROT_DHCP, "accept", "")),
        ("", (JGT, _RTPROT_STATIC, "drop", "accept")),
        ("drop", (RET, 0, "", "")),
        ("accept", (RET, ALL, "", "")),
    ]


def assemble(program: Program) -> bytes:
    """Return struct sock_filter[]; jumps are counted from the next instruction on."""
    places: dict[str, int] = {}
    instructions: list[Instruction] = []
    for label, instruction in program:
        if label:
            places[label] = len(instructions)
        if instruction is not None:
            instructions.append(instruction)
    code = bytearray()
    for place, (operation, operand, when_true, when_false) in enumerate(instructions):
        true, false = (places[label] - place - 1 if label else 0 for label in (when_true, when_false))
        if operation == JA:
            operand, true = true, 0
        code += struct.pack("=HBBI", operation, true, false, operand)
    return bytes(code)


def swap16(value: int) -> int:
    """Return a 16 bit number of a netlink header, which is native, as BPF loads it, which is big-endian."""
    return int.from_bytes(struct.pack("=H", value), "big")


def swap32(value: int) -> int:
    """Return a 32 bit number in the same way."""
    return int.from_bytes(struct.pack("=I", value), "big")
