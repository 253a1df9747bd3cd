# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers: the routers that this one has a channel to.

A `peer` section with a key is a peer. `conntrack_sync` may list peers too, by name or by address; options
that it sets for the channel hold for those whose own section does not set them. A peer that only a disabled
`conntrack_sync` lists has no channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tandem.config import keys, values
from tandem.config.names import Names
from tandem.config.read import Item, Parsed
from tandem.config.schema import Peer, PeerPath
from tandem.config.syntax.address import is_link_local, zoned
from tandem.config.syntax.path import read_paths
from tandem.config.values import decimal
from tandem.core.settings import Instance

MOST_PEERS = 16


@dataclass(slots=True)
class _Place:
    """Where a peer stands in the file, for what is wrong with it."""

    parsed: Parsed
    option: str
    item: Item | None = None

    def error(self, reason: str) -> None:
        self.parsed.error(reason, self.option, self.item)


@dataclass(slots=True)
class _Found:
    """The peers of one list so far."""

    peers: dict[str, Peer] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)  # address without its zone: its peer

    def has_room(self, place: _Place) -> bool:
        if len(self.peers) == MOST_PEERS:
            place.error(f"more than {MOST_PEERS} peers")
        return len(self.peers) < MOST_PEERS


class Peers:
    """Finds the peers, and reports what is wrong with them. `router_id`: that of this router."""

    def __init__(
        self, names: Names, syncs: Sequence[Parsed], instances: Sequence[Instance], router_id: str
    ) -> None:
        self.names = names
        self.sections = names.sections["peer"]
        self._router_id = router_id
        self._listed = {
            word for sync in syncs for item in sync.all("peer") for word in item.text.split() if word
        }
        self._virtual = {  # address: the instance that carries it
            address.address: instance.name
            for instance in instances
            for address in (*instance.virtual_addresses, *instance.excluded_addresses)
        }

    def unlisted(self, listed: tuple[Peer, ...] = ()) -> tuple[Peer, ...]:
        """Return the peers that no conntrack_sync lists; `listed`: the others."""
        found = _Found({peer.name: peer for peer in listed})
        found.owners = {_host(path.address): peer.name for peer in listed for path in peer.paths}
        for name, section in self.sections.items():
            keyed = bool(keys.given(section)) or section.get("insecure")
            if not keyed or name in self._listed:
                continue
            self.names.used.add(("peer", name))
            paths = self.names.peers[name]
            enabled = bool(section.get("enabled"))
            place = _Place(section, "address")
            if paths and found.has_room(place):
                self._add(found, place, name, paths, section, None, self._security(section, enabled))
            if not enabled:
                found.peers.pop(name, None)
        added = tuple(peer for name, peer in found.peers.items() if peer not in listed)
        self._one_port((*listed, *added))
        return added

    def listed(self, sync: Parsed) -> tuple[Peer, ...]:
        """Return the peers that this conntrack_sync lists."""
        self._not_virtual(sync.get("source"), _Place(sync, "source"))
        found = _Found()
        bare: list[PeerPath] = []  # paths that source and interface are for
        own: list[str] = []
        for item, name, paths in self._named_paths(sync):
            place = _Place(sync, "peer", item)
            if name in found.peers:
                place.error("is listed twice")
                continue
            if not found.has_room(place):
                break
            section = self.sections.get(name)
            bare += [path for path in paths if not path.interface and not path.source]
            security = None
            if section is not None and (keys.given(section) or section.get("insecure")):
                security = self._security(section, bool(sync.get("enabled") and section.get("enabled")))
                own.append(name)
            self._add(found, place, name, paths, section, sync, security or (False, (), 0))
        if found.peers:
            self._defaults_fit(sync, bare)
        insecure, secrets, key_id = self._common_security(sync, found.peers, own)
        _stall_timeout(sync, sync.get("heartbeat"), sync.get("stall_timeout"))
        return tuple(
            peer if name in own else replace(peer, insecure=insecure, secrets=secrets, key_id=key_id)
            for name, peer in found.peers.items()
            if name not in self.sections or self.sections[name].get("enabled")
        )

    def _named_paths(self, sync: Parsed) -> Iterator[tuple[Item, str, tuple[PeerPath, ...]]]:
        """Yield each peer of the list with its name and the paths to it; those in error are left out."""
        named = self.names.peers
        for item in _single_words(sync.all("peer"), named):
            if item.text in named:
                self.names.used.add(("peer", item.text))
                found = named[item.text]
                if found and _is_address(item.text) and {_host(p.address) for p in found} != {item.text}:
                    sync.error("is the name of a peer that has another address", "peer", item)
                elif found:
                    yield item, item.text, found
                continue
            try:
                paths = read_paths(item.text)
            except ValueError as error:
                word = item.text.split()[0]
                if self.names.like_a_name(word):
                    reason = "there is no peer of this name" + self.names.hint(word, named)
                    sync.error(reason, "peer", item)
                else:
                    sync.error(str(error), "peer", item)
                continue
            for path in paths:  # as in unicast_peer, another address is another peer
                yield item, _host(path.address), (path,)

    def _add(
        self,
        found: _Found,
        place: _Place,
        name: str,
        paths: tuple[PeerPath, ...],
        section: Parsed | None,
        sync: Parsed | None,
        security: tuple[bool, tuple[tuple[int, bytes], ...], int],
    ) -> None:
        def value(option: str) -> Any:
            source = sync if section is None or (sync and not section.given(option)) else section
            assert source is not None  # a peer without a section is listed
            return source.get(option)

        port = value("port")
        complete = tuple(self._complete(path, place, sync, port) for path in paths)
        for address in dict.fromkeys(_host(path.address) for path in paths):
            before = found.owners.setdefault(address, name)
            if before != name:
                place.error(f"{address} is an address of peer '{before}' already")
            self._not_virtual(address, place)
        heartbeat, stall_timeout = value("heartbeat"), value("stall_timeout")
        router_id = ""
        if section is not None:
            router_id = section.get("router_id") or ""
            if router_id and router_id == self._router_id:
                section.error("is the name of this router itself", "router_id")
            if section.given("heartbeat") or section.given("stall_timeout"):
                _stall_timeout(section, heartbeat, stall_timeout)
        insecure, secrets, key_id = security
        found.peers[name] = Peer(
            name,
            complete,
            secrets,
            key_id,
            insecure,
            router_id,
            value("max_hops"),
            heartbeat,
            stall_timeout,
        )

    def _complete(self, path: PeerPath, place: _Place, sync: Parsed | None, port: int) -> PeerPath:
        """Return the path with what conntrack_sync says for the peers that it lists."""
        interface, source = path.interface, path.source
        if source is not None:
            self._not_virtual(_host(source), place)
        if sync is not None and not interface and not source:
            interface = sync.get("interface")
            source = sync.get("source")
            if source is not None and (":" in source) != (":" in path.address):
                source = None
        address = zoned(path.address, interface)
        if source is not None:
            source = zoned(source, interface)
        if address == source:
            place.error(f"{address} is this router's own source")
        if not interface and is_link_local(address):
            hint = "dev, or option interface" if sync is not None else "dev"
            place.error(f"{address}: a link-local address needs {hint}")
        return replace(path, address=address, interface=interface, source=source, port=port)

    def _defaults_fit(self, sync: Parsed, bare: list[PeerPath]) -> None:
        for option in ("source", "interface"):
            if sync.get(option) is not None and not bare:
                sync.warn("has no effect: each peer has dev or src of its own", option)
        source = sync.get("source")
        if source is None:
            return
        if bare and all((":" in source) != (":" in path.address) for path in bare):
            family = 6 if ":" in bare[0].address else 4
            sync.error(f"must be an IPv{family} address, as those of the peers are", "source")
        elif is_link_local(source) and sync.get("interface") is None:
            sync.error("a link-local address needs option interface", "source")

    def _not_virtual(self, address: str | None, place: _Place) -> None:
        if address in self._virtual:
            name = self._virtual[address]
            place.error(f"{address} is a virtual address of '{name}': it moves between the routers")

    def _one_port(self, peers: Sequence[Peer]) -> None:
        for peer in peers[1:]:
            section, first = self.sections.get(peer.name), peers[0]
            if peer.paths[0].port != first.paths[0].port and section is not None:
                section.error(
                    f"must be the same for all peers: '{first.name}' has {first.paths[0].port}", "port"
                )

    # Security

    def _security(self, section: Parsed, files: bool) -> tuple[bool, tuple[tuple[int, bytes], ...], int]:
        """Return insecure, the secrets and the key id of a peer's own section."""
        if not section.get("insecure"):
            return False, *keys.read(section, files)
        if options := keys.given(section):
            section.error(f"contradicts {options[0]}", "insecure")
        if section.given("key_id"):
            section.error("needs a secret, and insecure says that there is none", "key_id")
        return True, (), 0

    def _common_security(
        self, sync: Parsed, peers: dict[str, Peer], own: list[str]
    ) -> tuple[bool, tuple[tuple[int, bytes], ...], int]:
        """Return insecure, the secrets and the key id of the listed peers that have no key of their own."""
        options = keys.given(sync)
        if sync.get("insecure"):
            secret = next((name for name in own if peers[name].secrets), None)
            if options:
                sync.error(f"contradicts {options[0]}", "insecure")
            elif secret:
                sync.error(f"contradicts the secret of peer '{secret}'", "insecure")
            if sync.given("key_id"):
                sync.error("needs a secret, and insecure says that there is none", "key_id")
            reached = [path.address for peer in peers.values() for path in peer.paths if not path.interface]
            if reached:
                sync.warn(
                    f"whoever reaches port {sync.get('port')} can make and break connections; at least name"
                    f" the interface of {reached[0]}",
                    "insecure",
                )
            return True, (), 0
        if options:
            return False, *keys.read(sync, bool(sync.get("enabled")))
        if own and len(own) == len(peers):
            if sync.given("key_id"):
                sync.error("has no effect: each peer has a secret of its own", "key_id")
        else:
            sync.error(
                "is missing: without one, whoever reaches the port could make and break connections; give"
                " secret or secret_file, or else option insecure '1'",
                "secret",
            )
        return False, (), 0


def _stall_timeout(parsed: Parsed, heartbeat: int, stall_timeout: int) -> None:
    if stall_timeout <= heartbeat:
        option = "stall_timeout" if parsed.given("stall_timeout") else "heartbeat"
        text = f"stall_timeout must be longer than heartbeat ({decimal(heartbeat, 3)} s)"
        parsed.error(text, option)


def _single_words(items: Sequence[Item], named: dict[str, Any]) -> Iterator[Item]:
    """Names are taken apart; a text with an address and words about it stays together."""
    for item in items:
        words = item.text.split()
        if {"dev", "src"} & set(words[1:]) and words[0] not in named:
            yield item
        else:
            yield from (Item(word, word, item.line) for word in words)


def _host(address: str) -> str:
    return address.partition("%")[0]


def _is_address(text: str) -> bool:
    try:
        values.host(text)
    except ValueError:
        return False
    return True
