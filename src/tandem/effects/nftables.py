# SPDX-License-Identifier: GPL-2.0-or-later
"""nftables as the daemon uses it: prebuilt transactions, and whether a table is still as it was made.

One batch makes each of Tandem's tables as a whole, so that the batch itself says what the kernel must have:
how many chains and sets, and how many rules in which chain. The kernel numbers the objects of a table from 1
on; a higher number belongs to an object that was added later.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from tandem.effects.netlink import (
    NETLINK_NETFILTER,
    Commands,
    Failure,
    attributes,
    messages,
    open_netlink,
)
from tandem.nlmsg import NFGENMSG, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, attribute, request

# Bytes. A transaction has to be one send: room for 255 instances with 8 refused IPv6 addresses each.
_SEND_BUFFER = 4 << 20
_ANSWER_SIZE = 1 << 16
_ANY, _INET = 0, 1  # NFPROTO_*

# NFNL_SUBSYS_NFTABLES, then enum nf_tables_msg_types
_NEWTABLE, _GETTABLE, _NEWCHAIN, _NEWRULE, _GETRULE, _NEWSET = 0xA00, 0xA01, 0xA03, 0xA06, 0xA07, 0xA09
_TABLE_NAME, _TABLE_FLAGS, _TABLE_USE = 1, 2, 3  # NFTA_TABLE_*
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE = 1, 2, 3  # NFTA_RULE_*
_NEWOBJ, _GETOBJ = 0xA12, 0xA13
_NEWFLOWTABLE, _GETFLOWTABLE = 0xA16, 0xA17
_OBJ_TABLE, _OBJ_NAME, _OBJ_TYPE, _OBJ_DATA = 1, 2, 3, 4  # NFTA_OBJ_*
_COUNTER = struct.pack("!I", 1)  # NFT_OBJECT_COUNTER
_COUNTER_PACKETS = 2  # NFTA_COUNTER_PACKETS


@dataclass(frozen=True, slots=True)
class Shape:
    """The objects of a table, counted."""

    objects: int  # chains and sets
    rules: tuple[tuple[bytes, int], ...]  # the name of each chain that has rules, and how many
    last: int  # the highest number of a rule
    flags: int = 0  # NFT_TABLE_F_*: a table may be dormant


class Nftables:
    """The socket for transactions; it is opened at the first one."""

    def __init__(self) -> None:
        self._commands: Commands | None = None

    @property
    def port(self) -> int:
        """The netlink port id of our own transactions; 0 before the first one."""
        return self._commands.port if self._commands is not None else 0

    def transact(self, batch: bytes, label: str = "nftables") -> tuple[Failure, ...]:
        """Let the kernel do all of a batch or nothing; return its refusals, under this label."""
        if self._commands is None:
            try:
                self._commands = Commands(NETLINK_NETFILTER, _SEND_BUFFER)
            except OSError as error:
                return (Failure(label, error.errno or errno.EIO),)
        errors = self._commands.transact(numbered(batch))
        return tuple(Failure(label, number, text) for _, number, text in errors)

    def close(self) -> None:
        """Close the socket; the tables stay as they are."""
        if self._commands is not None:
            self._commands.close()
            self._commands = None


def numbered(batch: bytes) -> bytes:
    """The messages of the batch with sequence numbers from 1."""
    numbered = bytearray(batch)
    offset, sequence = 0, 1
    while offset + 16 <= len(numbered):
        struct.pack_into("=I", numbered, offset + 8, sequence)
        length = struct.unpack_from("=I", numbered, offset)[0]
        offset += length + -length % 4
        sequence += 1
    return bytes(numbered)


def shape_of(batch: bytes) -> Shape | None:
    """Return the shape of the one table that a batch makes anew; None: it makes none."""
    objects, rules, anew = 0, dict[bytes, int](), False
    for kind, _, _, body in messages(batch):
        if kind == _NEWTABLE:
            objects, rules, anew = 0, {}, True
        elif kind in (_NEWCHAIN, _NEWSET):
            objects += 1
        elif kind == _NEWRULE:
            chain = attributes(body, 4)[_RULE_CHAIN]
            rules[chain] = rules.get(chain, 0) + 1
    if not anew or not objects:
        return None
    return Shape(objects, tuple(sorted(rules.items())), objects + sum(rules.values()) if rules else 0)


def shape_found(table: str) -> Shape | None:
    """Return the shape of the kernel's table `inet NAME`; None: there is none. OSError: it is not shown."""
    name = table.encode() + b"\0"
    answers = _ask(_GETTABLE, {_TABLE_NAME: name})
    found = [attributes(body, 4) for kind, body in answers if kind == _NEWTABLE]
    if not found:
        return None
    rules, last = dict[bytes, int](), 0
    for kind, body in _ask(_GETRULE, {_RULE_TABLE: name}, NLM_F_DUMP):
        if kind == _NEWRULE:
            rule = attributes(body, 4)
            if rule.get(_RULE_TABLE) == name:  # old kernels send the rules of all tables
                rules[rule[_RULE_CHAIN]] = rules.get(rule[_RULE_CHAIN], 0) + 1
                last = max(last, int.from_bytes(rule[_RULE_HANDLE], "big"))
    use, flags = (int.from_bytes(found[0].get(kind, b""), "big") for kind in (_TABLE_USE, _TABLE_FLAGS))
    return Shape(use, tuple(sorted(rules.items())), last, flags)


def packets_counted(table: str, counter: str) -> int:
    """Return the packets of a named counter in the table `inet NAME`; 0 without a counter. OSError."""
    wanted = {_OBJ_TABLE: table.encode() + b"\0", _OBJ_NAME: counter.encode() + b"\0", _OBJ_TYPE: _COUNTER}
    for kind, body in _ask(_GETOBJ, wanted):
        if kind == _NEWOBJ:
            data = attributes(attributes(body, 4)[_OBJ_DATA], 0)
            return int.from_bytes(data[_COUNTER_PACKETS], "big")
    return 0


def has_flow_tables() -> bool:
    """Whether some table has a flow table, which takes established flows out of conntrack. OSError."""
    return any(kind == _NEWFLOWTABLE for kind, _ in _ask(_GETFLOWTABLE, {}, NLM_F_DUMP, _ANY))


def _ask(kind: int, wanted: dict[int, bytes], flags: int = 0, family: int = _INET) -> list[tuple[int, bytes]]:
    """Return (type, body) of the answers; the kernel sends them during the request and each read."""
    body = NFGENMSG.pack(family, 0, 0)
    body += b"".join(attribute(number, value) for number, value in wanted.items())
    found: list[tuple[int, bytes]] = []
    with open_netlink(NETLINK_NETFILTER) as asked:
        asked.send(request(kind, body, flags))
        while True:
            try:
                datagram = asked.recv(_ANSWER_SIZE)
            except BlockingIOError:
                return found
            for answer, _, _, content in messages(datagram):
                if answer == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", content)[0]
                    if number in (0, errno.ENOENT):
                        return found
                    raise OSError(number, "nftables")
                if answer == NLMSG_DONE:
                    return found
                found.append((answer, content))
