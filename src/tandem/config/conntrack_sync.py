# SPDX-License-Identifier: GPL-2.0-or-later
"""The `conntrack_sync` section: its peers, its secrets and what must fit between its options.

A section that is not enabled is checked like one that is, but its secret files are not read: they
need not be there yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tandem.config import values
from tandem.config.guessable import guessable
from tandem.config.names import Names
from tandem.config.read import Item, Parsed
from tandem.config.schema import ConntrackSync, SyncPath, SyncPeer
from tandem.config.sync_values import STATE_NAMES, read_secret
from tandem.config.syntax.address import is_link_local, zoned
from tandem.config.syntax.path import read_paths
from tandem.config.values import decimal
from tandem.core.settings import Instance
from tandem.limits import NETWORKS_MAX, ZONES_MAX

MOST_PEERS = 16
MOST_NETWORKS, MOST_ZONES = 256, 1024

_SYN_SENT = next(number for number, name in STATE_NAMES.items() if name == "SYN_SENT")


def build(found: Sequence[Parsed], names: Names, instances: Sequence[Instance]) -> ConntrackSync | None:
    """The section that is enabled; None when there is none, or when errors leave it without a peer."""
    enabled = [parsed for parsed in found if parsed.get("enabled")]
    for more in enabled[1:]:
        more.error(f"only one conntrack_sync can be enabled, and the one at line {enabled[0].line()} is")
    built = {id(parsed): _Builder(parsed, names, instances).build() for parsed in found}
    return built[id(enabled[0])] if enabled else None


class _Builder:
    """Puts one ConntrackSync together, reporting what does not fit."""

    def __init__(self, parsed: Parsed, names: Names, instances: Sequence[Instance]) -> None:
        self.parsed, self.names = parsed, names
        self.virtual = {  # address: the instance that carries it
            address.address: instance.name
            for instance in instances
            for address in (*instance.virtual_addresses, *instance.excluded_addresses)
        }

    def build(self) -> ConntrackSync | None:
        parsed = self.parsed
        peers = self._peers()
        insecure, secrets, key_id = self._security(peers)
        only, ignored = self._either("address", "ignore_address")
        for option, networks in (("address", only), ("ignore_address", ignored)):
            self._bound(option, len(networks), NETWORKS_MAX, MOST_NETWORKS)
        protocols, ignored_protocols = self._either("protocol", "ignore_protocol")
        zones = self._list("zone")
        self._bound("zone", len(zones), ZONES_MAX, MOST_ZONES)
        guarantee = self._guarantee()
        if not peers:
            return None
        computed: dict[str, Any] = {
            "peers": peers,
            "secrets": secrets,
            "key_id": key_id,
            "insecure": insecure,
            "stall_timeout_ms": self._stall_timeout(),
            "only_networks": only,
            "ignore_networks": ignored,
            "protocols": protocols,
            "ignore_protocols": ignored_protocols,
            "tcp_states": self._tcp_states(guarantee),
            "zones": zones,
            "guarantee": guarantee,
        }
        fields = parsed.fields() | computed
        if guarantee is None:
            del fields["guarantee_timeout_ms"]
        return ConntrackSync(**fields)

    # peers

    def _peers(self) -> tuple[SyncPeer, ...]:
        parsed = self.parsed
        self._not_virtual(parsed.get("source"), "source", None)
        peers: dict[str, SyncPeer] = {}
        owners: dict[str, str] = {}  # address without its zone, which a packet does not tell: its peer
        bare: list[SyncPath] = []  # paths that source and interface are for
        for item, name, paths in self._named_paths():
            if name in peers:
                parsed.error("is listed twice", "peer", item)
                continue
            if len(peers) == MOST_PEERS:
                parsed.error(f"more than {MOST_PEERS} peers", "peer", item)
                break
            bare += [path for path in paths if not path.interface and not path.source]
            complete = tuple(self._complete(path, item) for path in paths)
            peers[name] = SyncPeer(name, complete, self._secret_of(name))
            for address in dict.fromkeys(_host(path.address) for path in paths):
                before = owners.setdefault(address, name)
                if before != name:
                    parsed.error(f"{address} is an address of peer '{before}' already", "peer", item)
                self._not_virtual(address, "peer", item)
        if peers:
            self._defaults_fit(bare)
        return tuple(peers.values())

    def _named_paths(self) -> Iterator[tuple[Item, str, tuple[SyncPath, ...]]]:
        """What each peer of the list is called and the ways to it; those in error are left out."""
        parsed, named = self.parsed, self.names.peers
        for item in _single_words(parsed.all("peer"), named):
            if item.text in named:
                self.names.used.add(("peer", item.text))
                found = named[item.text]
                if found and _is_address(item.text) and {_host(p.address) for p in found} != {item.text}:
                    parsed.error("is the name of a peer that has another address", "peer", item)
                elif found:
                    yield item, item.text, found
                continue
            try:
                paths = read_paths(item.text)
            except ValueError as error:
                word = item.text.split()[0]
                if self.names.like_a_name(word):
                    reason = "there is no peer of this name" + self.names.hint(word, named)
                    parsed.error(reason, "peer", item)
                else:
                    parsed.error(str(error), "peer", item)
                continue
            for path in paths:  # as in unicast_peer, another address is another peer
                yield item, _host(path.address), (path,)

    def _complete(self, path: SyncPath, item: Item) -> SyncPath:
        """The path with what the section says for all peers."""
        interface, source = path.interface, path.source
        if source is not None:
            self._not_virtual(_host(source), "peer", item)
        if not interface and not source:
            interface = self.parsed.get("interface")
            source = self.parsed.get("source")
            if source is not None and (":" in source) != (":" in path.address):
                source = None
        address = zoned(path.address, interface)
        if source is not None:
            source = zoned(source, interface)
        if address == source:
            self.parsed.error(f"{address} is this router's own source", "peer", item)
        if not interface and is_link_local(address):
            self.parsed.error(f"{address}: a link-local address needs dev, or option interface", "peer", item)
        return replace(
            path, address=address, interface=interface, source=source, port=self.parsed.get("port")
        )

    def _defaults_fit(self, bare: list[SyncPath]) -> None:
        parsed = self.parsed
        for option in ("source", "interface"):
            if parsed.get(option) is not None and not bare:
                parsed.warn("has no effect: each peer has dev or src of its own", option)
        source = parsed.get("source")
        if source is None:
            return
        if bare and all((":" in source) != (":" in path.address) for path in bare):
            family = 6 if ":" in bare[0].address else 4
            parsed.error(f"must be an IPv{family} address, as those of the peers are", "source")
        elif is_link_local(source) and parsed.get("interface") is None:
            parsed.error("a link-local address needs option interface", "source")

    def _not_virtual(self, address: str | None, option: str, item: Item | None) -> None:
        if address in self.virtual:
            self.parsed.error(
                f"{address} is a virtual address of '{self.virtual[address]}': it moves between the routers",
                option,
                item,
            )

    # secrets

    def _security(self, peers: tuple[SyncPeer, ...]) -> tuple[bool, tuple[tuple[int, bytes], ...], int]:
        """Whether there is to be no secret, all secrets by key id, and the key id that is used."""
        parsed = self.parsed
        options = [option for option in ("secret", "secret_file", "key") if parsed.given(option)]
        insecure = parsed.get("insecure")
        own = [peer.name for peer in peers if peer.secret]
        if insecure:
            if options:
                parsed.error(f"contradicts {options[0]}", "insecure")
            elif own:
                parsed.error(f"contradicts the secret of peer '{own[0]}'", "insecure")
            if parsed.given("key_id"):
                parsed.error("needs a secret, and insecure says that there is none", "key_id")
            open_paths = [path.address for peer in peers for path in peer.paths if not path.interface]
            if open_paths:
                parsed.warn(
                    f"whoever reaches port {parsed.get('port')} can make and break connections; at least name"
                    f" the interface of {open_paths[0]}",
                    "insecure",
                )
            return True, (), 0
        if not options and own and len(own) == len(peers):
            if parsed.given("key_id"):
                parsed.error("has no effect: each peer has a secret of its own", "key_id")
            return False, (), 0
        if not options:
            parsed.error(
                "is missing: without one, whoever reaches the port could make and break connections; give"
                " secret or secret_file, or else option insecure '1'",
                "secret",
            )
            return False, (), 0
        secrets = self._secrets()
        return False, tuple(sorted(secrets.items())), self._key_id(secrets)

    def _secret_of(self, name: str) -> bytes:
        """Return the secret of a peer's own section; b"" when it has none, or a wrong one."""
        section = self.names.sections["peer"].get(name)
        if section is None:
            return b""
        if section.given("secret") and section.given("secret_file"):
            section.error("contradicts secret", "secret_file")
        for option in ("secret", "secret_file"):
            for item in section.all(option):
                return self._read(item.value, option, item, section)
        return b""

    def _secrets(self) -> dict[int, bytes]:
        """The secrets by key id; b"" for one that is in error or that is not looked up."""
        parsed = self.parsed
        found: dict[int, bytes] = {}
        if parsed.given("secret") and parsed.given("secret_file"):
            parsed.error("contradicts secret", "secret_file")
        for option in ("secret_file", "secret"):
            if parsed.given(option):
                found[1] = b""
            for item in parsed.all(option):
                found[1] = self._read(item.value, option, item)
        for item in parsed.all("key"):
            key_id, source = item.value
            if key_id in found:
                where = "secret" if parsed.given("secret") else "secret_file"
                reason = f"key id 1 is the one of {where}" if key_id == 1 and parsed.given(where) else ""
                parsed.error(reason or f"key id {key_id} is given twice", "key", item)
            else:
                found[key_id] = self._read(source, "key", item)
        return found

    def _read(self, source: bytes | str, option: str, item: Item, of: Parsed | None = None) -> bytes:
        parsed = of or self.parsed
        if isinstance(source, bytes):
            secret, what = source, "the secret"
        elif not self.parsed.get("enabled"):
            return b""
        else:
            try:
                secret, what = read_secret(source), f"the secret in {source}"
            except ValueError as error:
                parsed.error(str(error), option, item)
                return b""
        if guessable(secret):
            parsed.error(
                f"{what} can be guessed by trying secrets that people make up: make a random one, for example"
                " with: head -c 24 /dev/urandom | base64",
                option,
                item,
            )
        return secret

    def _misread(self, option: str) -> bool:
        """Whether some values of a list are in error."""
        given = self.parsed.section.options.get(option)
        return given is not None and len(self.parsed.all(option)) < sum(bool(v.text) for v in given.values)

    def _key_id(self, secrets: dict[int, bytes]) -> int:
        parsed = self.parsed
        listed = ", ".join(map(str, sorted(secrets)))
        key_id: int | None = parsed.get("key_id")
        if self._misread("key"):
            return key_id or 0  # it may be one of those in error
        if key_id is None and (1 in secrets or len(secrets) == 1):
            return min(secrets)
        if key_id is None:
            parsed.error(f"is missing: which of the keys {listed} does this router use?", "key_id")
        elif key_id not in secrets:
            have = f"there are {listed}" if len(secrets) > 1 else f"there is {listed}"
            parsed.error(f"there is no key with this id; {have}", "key_id")
        return key_id or 0

    # filters

    def _list(self, option: str) -> tuple[Any, ...]:
        """The values of a list of lists."""
        found: list[Any] = []
        for item in self.parsed.all(option):
            for value in item.value:
                if value in found:
                    shown = STATE_NAMES[value] if option == "tcp_state" else value
                    self.parsed.error(f"{shown} is listed twice", option, item)
                else:
                    found.append(value)
        return tuple(found)

    def _either(self, only: str, ignore: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        if self.parsed.given(only) and self.parsed.given(ignore):
            self.parsed.error(f"contradicts {only}, which leaves out all others already", ignore)
        return self._list(only), self._list(ignore)

    def _bound(self, option: str, number: int, kernel: int, most: int) -> None:
        if number > most:
            self.parsed.error(f"more than {most}", option)
        elif number > kernel:
            self.parsed.warn(
                f"more than {kernel} are too many for the kernel's filter: the daemon filters, at more cost",
                option,
            )

    def _tcp_states(self, guarantee: str | None) -> tuple[int, ...]:
        states = self._list("tcp_state")
        if guarantee and states and _SYN_SENT not in states:
            self.parsed.error(
                "with guarantee it needs SYN_SENT: a connection is in that state until it is answered",
                "tcp_state",
            )
        return states

    # timers

    def _guarantee(self) -> str | None:
        guarantee: str = self.parsed.get("guarantee")
        if guarantee == "none" and self.parsed.given("guarantee_timeout"):
            self.parsed.warn("has no effect without guarantee", "guarantee_timeout")
        return None if guarantee == "none" else guarantee

    def _stall_timeout(self) -> int:
        heartbeat, stall_timeout = self.parsed.get("heartbeat"), int(self.parsed.get("stall_timeout"))
        if stall_timeout <= heartbeat:
            option = "stall_timeout" if self.parsed.given("stall_timeout") else "heartbeat"
            text = f"stall_timeout must be longer than heartbeat ({decimal(heartbeat, 3)} s)"
            self.parsed.error(text, option)
        return stall_timeout


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
