# SPDX-License-Identifier: GPL-2.0-or-later
"""Tandem's nftables table: replaced as a whole, in one transaction of the kernel."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable

from tandem.effects.netlink import NETLINK_NETFILTER, Commands, Failure
from tandem.plan.result import Plan

# Bytes. A transaction has to be one send: room for 255 instances with 8 refused IPv6 addresses each.
_SEND_BUFFER = 4 << 20


class Firewall:
    """The rules of the instances that are active now.

    `device_of` says what device an interface name of the configuration stands for.
    After `take_plan` the next `set_active` makes the table anew, even if nothing has changed: it mends
    what `nft flush ruleset` has removed.
    """

    def __init__(self, plan: Plan, device_of: Callable[[str], str | None] = lambda name: name) -> None:
        self.plan = plan
        self._device_of = device_of
        self._commands: Commands | None = None
        self._sent: bytes | None = None  # the last batch, and what the kernel said to it
        self._failures: tuple[Failure, ...] = ()
        self._anew = False

    def take_plan(self, plan: Plan) -> None:
        """Go over to the plan of a reload."""
        self.plan = plan
        self._anew = True

    def set_active(self, names: Iterable[str], *, force: bool = False) -> tuple[Failure, ...]:
        """Make the table hold the rules of exactly these instances; the kernel's refusals.

        Nothing has changed since the last call: no system call, the same answer. `force` when
        somebody else may have touched the table. The first call replaces what a former life left.
        """
        plan = self.plan
        if not plan.nft_head:
            needed_before = self._sent is not None and not self._failures
            failures = self._send(plan.nft_clear, force)
            return failures if needed_before else ()  # a kernel without nftables has no table either
        active = set(names)
        fragments = b"".join(
            self._on_devices(name, part.nft) for name, part in plan.instances.items() if name in active
        )
        return self._send(plan.nft_head + fragments + plan.nft_tail, force)

    def clear(self) -> tuple[Failure, ...]:
        """Remove the table."""
        return self._send(self.plan.nft_clear, True)

    def close(self) -> None:
        """Close the socket; the table stays as it is."""
        if self._commands is not None:
            self._commands.close()
            self._commands = None

    def _on_devices(self, name: str, nft: bytes) -> bytes:
        """The rules of an instance with devices instead of networks."""
        for instance in self.plan.config.instances if nft else ():
            if instance.name == name:
                addresses = instance.virtual_addresses + instance.excluded_addresses
                for interface in {instance.interface, *(address.device for address in addresses)}:
                    device = interface and self._device_of(interface)
                    if interface and device and device != interface:
                        nft = nft.replace(_name(interface), _name(device))
        return nft

    def _send(self, batch: bytes, force: bool) -> tuple[Failure, ...]:
        if batch != self._sent or force or self._anew:
            self._sent = batch
            self._anew = False
            self._failures = self._transact(batch)
        return self._failures

    def _transact(self, batch: bytes) -> tuple[Failure, ...]:
        if self._commands is None:
            try:
                self._commands = Commands(NETLINK_NETFILTER, _SEND_BUFFER)
            except OSError as error:
                return (Failure("nftables", error.errno or errno.EIO),)
        errors = self._commands.transact(numbered(batch))
        return tuple(Failure("nftables", number, text) for _, number, text in errors)


def _name(interface: str) -> bytes:
    """A name as `oifname` compares it: NFTA_DATA_VALUE of IFNAMSIZ bytes."""
    return struct.pack("=HH16s", 20, 1, interface.encode())


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
