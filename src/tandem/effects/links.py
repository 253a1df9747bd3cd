# SPDX-License-Identifier: GPL-2.0-or-later
"""Links: the network interfaces and their addresses as netlink last told them.

Everything outside speaks of interfaces by name, the kernel by index. An interface may vanish,
come back under another index or change its name: what matters is what a name stands for before
and after a message, so the changes are the difference of the two.

A name may also be that of one of OpenWrt's networks (`lan`), which stands for the device that netifd
says: every question here takes either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum

from tandem.effects.rtnl import PROTOCOL, AddressMessage, LinkMessage

_IFF_UP, _IFF_RUNNING = 0x1, 0x40  # include/uapi/linux/if.h
_OPER_UNKNOWN, _OPER_UP = 0, 6  # RFC 2863; many drivers never say more than unknown
_IFA_F_SECONDARY, _IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x01, 0x08, 0x40  # include/uapi/linux/if_addr.h
_SCOPE_LINK, _SCOPE_HOST = 253, 254

_AddressKey = tuple[int, bytes, int]  # family, packed, prefix length


class What(Enum):
    """The change of an interface name."""

    APPEARED = "appeared"  # also under another index: its sockets and messages must be made anew
    VANISHED = "vanished"
    USABLE = "usable"
    UNUSABLE = "unusable"
    MAC = "mac"
    ADDRESSES = "addresses"  # ask `primary_address` again


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that has changed. `index` is the one it had when it vanished."""

    what: What
    name: str
    index: int


@dataclass(slots=True)
class _Link:
    index: int
    name: str
    usable: bool
    mac: bytes
    mtu: int
    addresses: dict[_AddressKey, AddressMessage] = field(default_factory=dict)  # in the kernel's order


# index, usable, MAC address, addresses with their flags: what a name stands for
_View = tuple[int, bool, bytes, tuple[tuple[_AddressKey, int], ...]]


class Links:
    """The table. It starts empty; feed it a dump with `resync`, then every notification.

    `networks` are the names that are not devices, each with its device, None while it has none.
    """

    def __init__(self) -> None:
        self.networks: dict[str, str | None] = {}
        self._links: dict[int, _Link] = {}
        self._by_name: dict[str, _Link] = {}

    def update(self, message: LinkMessage | AddressMessage) -> list[Change]:
        """Take one notification; what it has changed, by name."""
        known = self._links.get(message.ifindex)
        names = [known.name] if known else []
        if isinstance(message, LinkMessage):
            names.append(message.name)
        before = {name: self._view(name) for name in names}
        self._apply(message)
        return [change for name in before for change in _difference(name, before[name], self._view(name))]

    def resync(self, messages: Iterable[LinkMessage | AddressMessage]) -> list[Change]:
        """Take a whole dump, links before addresses; what is not in it has vanished."""
        before = {name: self._view(name) for name in self._by_name}
        self._links.clear()
        self._by_name.clear()
        for message in messages:
            self._apply(message)
        names = dict.fromkeys((*before, *self._by_name))
        return [change for name in names for change in _difference(name, before.get(name), self._view(name))]

    def names(self) -> list[str]:
        """The names of all interfaces."""
        return list(self._by_name)

    def device(self, name: str) -> str | None:
        """The device that `name` stands for, itself by default; None for a network without one.

        It need not exist.
        """
        return self.networks.get(name, name)

    def index(self, name: str) -> int | None:
        """The interface index of `name`, None when there is no such interface."""
        link = self._find(name)
        return link.index if link else None

    def device_index(self, device: str) -> int | None:
        """The interface index of a device, even where a network has the same name."""
        link = self._by_name.get(device)
        return link.index if link else None

    def name(self, index: int) -> str | None:
        """The name of interface `index`."""
        link = self._links.get(index)
        return link.name if link else None

    def usable(self, name: str) -> bool:
        """Present, administratively up, and the kernel says that packets can pass."""
        link = self._find(name)
        return link is not None and link.usable

    def mac(self, name: str) -> bytes | None:
        """The link-layer address; b"" for an interface without, None for none at all."""
        link = self._find(name)
        return link.mac if link else None

    def mtu(self, name: str) -> int | None:
        """The MTU in bytes."""
        link = self._find(name)
        return link.mtu if link else None

    def has_address(self, name: str, packed: bytes) -> bool:
        """Whether `name` carries the address; virtual addresses only as far as the monitor tells them."""
        link = self._find(name)
        return link is not None and any(key[1] == packed for key in link.addresses)

    def carries(self, packed: bytes) -> bool:
        """Whether an interface that is usable carries the address."""
        return any(
            link.usable and any(key[1] == packed for key in link.addresses) for link in self._links.values()
        )

    def can_send_from(self, name: str, packed: bytes) -> bool:
        """Whether packets may leave `name` from this address: this router has it, and no other host.

        A link-local address must be on `name` itself.
        """
        link = self._find(name)
        everywhere = () if packed[:1] == b"\xfe" and len(packed) == 16 else self._links.values()
        return any(
            message.address == packed and not message.flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED)
            for one in ((link,) if link else ()) + tuple(everywhere)
            for message in one.addresses.values()
        )

    def addresses(self) -> frozenset[bytes]:
        """Every address of every interface, packed."""
        return frozenset(key[1] for link in self._links.values() for key in link.addresses)

    def own_addresses(
        self, name: str, family: int, exclude: Collection[bytes] = ()
    ) -> list[tuple[bytes, int]]:
        """The interface's addresses of `family` (4 or 6) that are not virtual, with their prefix lengths."""
        link = self._find(name)
        return [
            (message.address, message.prefixlen)
            for message in (link.addresses.values() if link else ())
            if message.family == family and message.address not in exclude and message.protocol != PROTOCOL
        ]

    def primary_address(self, name: str, family: int, exclude: Collection[bytes] = ()) -> bytes | None:
        """The address (packed) that adverts of `family` (4 or 6) are sent from, None if there is none.

        IPv4: the first of the interface's own addresses, primary ones first. IPv6: its first
        link-local one that has passed duplicate address detection (RFC 9568 section 1.7).
        `exclude` are the virtual addresses; those that Tandem installed never count.
        """
        link = self._find(name)
        if link is None:
            return None
        own = [
            message
            for message in link.addresses.values()
            if message.family == family and message.address not in exclude and message.protocol != PROTOCOL
        ]
        if family == 6:
            own = [
                message
                for message in own
                if message.scope == _SCOPE_LINK and not message.flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED)
            ]
        else:
            # An own address becomes secondary when the virtual one of its subnet was there first.
            own = [message for message in own if message.scope != _SCOPE_HOST]
            own.sort(key=lambda message: message.flags & _IFA_F_SECONDARY)
        return own[0].address if own else None

    def _find(self, name: str) -> _Link | None:
        device = self.networks.get(name, name)
        return None if device is None else self._by_name.get(device)

    def _apply(self, message: LinkMessage | AddressMessage) -> None:
        if isinstance(message, AddressMessage):
            self._apply_address(message)
        elif message.is_new:
            self._apply_link(message)
        else:
            self._remove(message.ifindex)

    def _apply_link(self, message: LinkMessage) -> None:
        link = self._links.get(message.ifindex)
        if link is None or link.name != message.name:
            # A name is unique: who has it in our table has lost it, though we have not heard how.
            holder = self._by_name.get(message.name)
            if holder is not None:
                self._remove(holder.index)
        if link is None:
            link = self._links[message.ifindex] = _Link(message.ifindex, message.name, False, b"", 0)
        self._by_name.pop(link.name, None)
        self._by_name[message.name] = link
        link.name = message.name
        link.mac = message.mac
        link.mtu = message.mtu
        link.usable = _is_usable(message)

    def _apply_address(self, message: AddressMessage) -> None:
        link = self._links.get(message.ifindex)
        if link is None:
            return
        key = (message.family, message.address, message.prefixlen)
        if message.is_new:
            link.addresses[key] = message
        else:
            link.addresses.pop(key, None)

    def _remove(self, index: int) -> None:
        link = self._links.pop(index, None)
        if link is not None:
            self._by_name.pop(link.name, None)

    def _view(self, name: str) -> _View | None:
        link = self._by_name.get(name)
        if link is None:
            return None
        addresses = tuple((key, message.flags) for key, message in link.addresses.items())
        return link.index, link.usable, link.mac, addresses


def _is_usable(message: LinkMessage) -> bool:
    # The flags of a message are those of its moment; operstate may lag behind a carrier
    # that came back (net/core/link_watch.c), and then errs on the side of "not yet".
    wanted = _IFF_UP | _IFF_RUNNING
    return (
        message.flags & wanted == wanted
        and message.carrier
        and message.operstate in (_OPER_UNKNOWN, _OPER_UP)
    )


def _difference(name: str, before: _View | None, after: _View | None) -> list[Change]:
    changes = []
    if before is not None and (after is None or after[0] != before[0]):
        changes.append(Change(What.VANISHED, name, before[0]))
        before = None
    if after is None:
        return changes
    index, usable, mac, addresses = after
    if before is None:
        changes.append(Change(What.APPEARED, name, index))
        before = (index, False, mac, ())
    if usable != before[1]:
        changes.append(Change(What.USABLE if usable else What.UNUSABLE, name, index))
    if mac != before[2]:
        changes.append(Change(What.MAC, name, index))
    if addresses != before[3]:
        changes.append(Change(What.ADDRESSES, name, index))
    return changes
