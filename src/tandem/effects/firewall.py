# SPDX-License-Identifier: GPL-2.0-or-later
"""Tandem's nftables table: replaced as a whole, in one transaction of the kernel."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from tandem.effects.netlink import NETLINK_NETFILTER, Commands, Failure
from tandem.effects.plan import Plan

_SEND_BUFFER = 4 << 20  # bytes; a transaction has to be one send: 255 instances with 8 refused IPv6 addresses


class Firewall:
    """The rules of the instances that are active now.

    `plan` may be replaced at a reload; the next `set_active` brings the table up to date.
    """

    def __init__(self, plan: Plan) -> None:
        """OSError when the kernel has no nfnetlink although the plan needs it."""
        self.plan = plan
        self._commands: Commands | None = None
        self._installed: bytes | None = None  # the batch that the kernel took last; None: unknown

    def set_active(self, names: Iterable[str], *, force: bool = False) -> tuple[Failure, ...]:
        """Make the table hold the rules of exactly these instances; nothing to do: no system call."""
        plan = self.plan
        if not plan.nft_head:
            return self.clear() if self._installed else ()
        active = set(names)
        fragments = b"".join(part.nft for name, part in plan.instances.items() if name in active)
        return self._send(plan.nft_head + fragments + plan.nft_tail, force)

    def clear(self) -> tuple[Failure, ...]:
        """Remove the table."""
        return self._send(self.plan.nft_clear, True)

    def close(self) -> None:
        """Close the socket; the table stays as it is."""
        if self._commands is not None:
            self._commands.close()
            self._commands = None

    def _send(self, batch: bytes, force: bool) -> tuple[Failure, ...]:
        if not batch or (batch == self._installed and not force):
            return ()
        if self._commands is None:
            try:
                self._commands = Commands(NETLINK_NETFILTER, _SEND_BUFFER)
            except OSError as error:
                return (Failure("nftables", error.errno or 0),)
        self._installed = None
        failures = tuple(
            Failure("nftables", number, text) for _, number, text in self._commands.transact(_numbered(batch))
        )
        if not failures:
            self._installed = batch
        return failures


def _numbered(batch: bytes) -> bytes:
    """The messages of the batch with sequence numbers from 1."""
    numbered = bytearray(batch)
    offset, sequence = 0, 1
    while offset + 16 <= len(numbered):
        struct.pack_into("=I", numbered, offset + 8, sequence)
        length = struct.unpack_from("=I", numbered, offset)[0]
        offset += length + -length % 4
        sequence += 1
    return bytes(numbered)
