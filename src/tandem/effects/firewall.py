# SPDX-License-Identifier: GPL-2.0-or-later
"""Tandem's nftables table: replaced as a whole, in one transaction of the kernel."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from tandem.effects.netlink import Failure
from tandem.effects.nftables import Nftables, shape_found, shape_of
from tandem.plan.result import NOTRACK_TABLE, TABLE, Plan


class Firewall:
    """The rules of the instances that are active now.

    `device_of` says what device an interface name of the configuration stands for. After `take_plan` the next
    `set_active` makes the table anew, even if nothing has changed. `restore` undoes the changes of other
    programs, see table_watch.py.
    """

    def __init__(
        self,
        plan: Plan,
        device_of: Callable[[str], str | None] = lambda name: name,
        nftables: Nftables | None = None,
    ) -> None:
        self.plan = plan
        self._device_of = device_of
        self._nftables = nftables or Nftables()
        self._sent: bytes | None = None  # the last batch, and what the kernel said to it
        self._failures: tuple[Failure, ...] = ()
        self._anew = False
        self._untracked: bytes | None = None  # what stands in the kernel

    def take_plan(self, plan: Plan) -> None:
        """Go over to the plan of a reload."""
        self.plan = plan
        self._anew = True

    def clear_former(self) -> None:
        """Remove the tables that a killed daemon may have left: this one, the gate's, and two others."""
        self._nftables.transact(self.plan.nft_former)  # a kernel without nftables has no tables either

    def keep_untracked(self) -> tuple[Failure, ...]:
        """Keep adverts and the channel out of connection tracking; return the kernel's refusals."""
        self._untracked = None
        failures = self._nftables.transact(self.plan.nft_notrack)
        if not failures:
            self._untracked = self.plan.nft_notrack
        return failures

    def restore_untracked(self) -> bool:
        """Make the table anew if another program has changed it; return whether. OSError: see `restore`."""
        if self._untracked is None or shape_found(NOTRACK_TABLE) == shape_of(self._untracked):
            return False
        self._nftables.transact(self._untracked)
        return True

    def set_active(self, names: Iterable[str], *, force: bool = False) -> tuple[Failure, ...]:
        """Make the table hold the rules of exactly these instances; the kernel's refusals.

        Nothing has changed since the last call: no system call, the same answer. `force` when
        somebody else may have touched the table.
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
        """Remove the tables."""
        if self._untracked is not None:
            self._nftables.transact(self.plan.nft_no_notrack)
            self._untracked = None
        return self._send(self.plan.nft_clear, True)

    def restore(self) -> bool:
        """Make the table anew if another program has changed it; return whether.

        OSError when the kernel does not show it. A batch that the kernel has refused is not tried again.
        """
        if not self.plan.nft_head or self._sent is None or self._failures:
            return False
        if shape_found(TABLE) == shape_of(self._sent):
            return False
        self._failures = self._nftables.transact(self._sent)
        return True

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The kernel's refusals of the last batch."""
        return self._failures

    def close(self) -> None:
        """Close the socket; the table stays as it is."""
        self._nftables.close()

    def _on_devices(self, name: str, nft: bytes) -> bytes:
        """The rules of an instance with devices instead of networks.

        The replacement has two steps, because a network may have the name of another network's device.
        """
        devices: list[str] = []
        for instance in self.plan.config.instances if nft else ():
            if instance.name == name:
                addresses = instance.virtual_addresses + instance.excluded_addresses
                for interface in {instance.interface, *(address.device for address in addresses)}:
                    device = interface and self._device_of(interface)
                    if interface and device and device != interface:
                        nft = nft.replace(_name(interface), _place(len(devices)))
                        devices.append(device)
        for number, device in enumerate(devices):
            nft = nft.replace(_place(number), _name(device))
        return nft

    def _send(self, batch: bytes, force: bool) -> tuple[Failure, ...]:
        if batch != self._sent or force or self._anew:
            self._sent = batch
            self._anew = False
            self._failures = self._nftables.transact(batch)
        return self._failures


def _name(interface: str) -> bytes:
    """A name as `oifname` compares it: NFTA_DATA_VALUE of IFNAMSIZ bytes."""
    return struct.pack("=HH16s", 20, 1, interface.encode())


def _place(number: int) -> bytes:
    """Return a placeholder of the same size, which is no interface's name."""
    return struct.pack("=HHIIII", 20, 1, 0, number, 0, 0)
