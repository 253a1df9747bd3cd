# SPDX-License-Identifier: GPL-2.0-or-later
"""Words, numbers and address family: the parts of every text in keepalived.conf's syntax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tandem.config import values
from tandem.config.problem import suggestion

SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254}  # RT_SCOPE_*, linux/rtnetlink.h
TABLES = {"default": 253, "main": 254, "local": 255}
PROTOCOLS = {  # RTPROT_*, linux/rtnetlink.h
    "redirect": 1, "kernel": 2, "boot": 3, "static": 4, "gated": 8, "ra": 9, "mrt": 10, "zebra": 11,
    "bird": 12, "dnrouted": 13, "xorp": 14, "ntk": 15, "dhcp": 16, "mrouted": 17, "keepalived": 18,
    "babel": 42, "ovn": 84, "openr": 99, "bgp": 186, "isis": 187, "ospf": 188, "rip": 189, "eigrp": 192,
}  # fmt: skip
ANY = {"default": None, "any": None, "all": None, "default4": 4, "default6": 6}

Reader = Callable[[str], Any]


class Words:
    """The words of one text, read one by one."""

    def __init__(self, text: str) -> None:
        self.words = text.split()
        self.at = 0

    def __iter__(self) -> Iterator[str]:
        while self.at < len(self.words):
            self.at += 1
            yield self.words[self.at - 1]

    def peek(self) -> str | None:
        return self.words[self.at] if self.at < len(self.words) else None

    def argument(self, keyword: str, read: Reader) -> Any:
        """Return the value that follows the keyword; the ValueError begins with the keyword."""
        if self.at >= len(self.words):
            raise ValueError(f"'{keyword}' needs a value after it")
        self.at += 1
        try:
            return read(self.words[self.at - 1])
        except ValueError as error:
            raise ValueError(f"'{keyword} {self.words[self.at - 1]}': {error}") from None


class Once(dict[str, Any]):
    """Fields of an object that is being read; each may be set once."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self:
            raise ValueError(f"{key.replace('_', ' ')} is given twice")
        super().__setitem__(key, value)


def number(low: int, high: int) -> Reader:
    return lambda text: values.integer(text, low, high)


def named_number(names: dict[str, int], low: int, high: int) -> Reader:
    def read(text: str) -> int:
        if text in names:
            return names[text]
        try:
            return values.integer(text, low, high)
        except ValueError:
            known = ", ".join(names)
            raise ValueError(f"must be one of {known} or a number from {low} to {high}") from None

    return read


def scope(text: str) -> int:
    """Return RT_SCOPE_* of the name or the number of a scope; ValueError."""
    if text in ("nowhere", "255"):
        raise ValueError("means that nothing can be reached; use global, site, link or host")
    return int(named_number(SCOPES, 0, 254)(text))


table = named_number(TABLES, 1, 0xFFFFFFFF)
protocol = named_number(PROTOCOLS, 0, 255)
metric = number(0, 0xFFFFFFFF)
mtu = number(68, 65535)


def tos(text: str) -> int:
    """Return a type-of-service byte, whose two ECN bits must be 0; ValueError."""
    number = values.integer(text, 0, 255)
    if number & 3:
        raise ValueError("the two lowest bits of tos belong to ECN and must be 0")
    return number


def unknown_word(word: str, known: set[str], unsupported: set[str]) -> ValueError:
    if word in unsupported:
        return ValueError(f"'{word}' is not supported")
    return ValueError(f"unknown word '{word}'{suggestion(word, known)}")


class Family:
    """The address family that all addresses of one text share."""

    def __init__(self) -> None:
        self.version: int | None = None

    def agree(self, version: int, what: str) -> None:
        if self.version not in (None, version):
            raise ValueError(f"mixes IPv{self.version} and IPv{version}: {what}")
        self.version = version

    def host(self, text: str) -> str:
        address = values.host(text)
        self.agree(address.version, text)
        return str(address)

    def unicast(self, text: str) -> str:
        address = values.unicast(values.host(text))
        self.agree(address.version, text)
        return str(address)

    def prefix(self, text: str) -> str | None:
        """Return a canonical prefix; None for `default` while the family is not known."""
        if text in ANY:
            version = ANY[text]
            if version is None:
                return None
            self.agree(version, text)
            return "0.0.0.0/0" if version == 4 else "::/0"
        found = values.network(text)
        self.agree(found.version, text)
        return str(found)

    @property
    def number(self) -> int:
        return self.version or 4  # as keepalived: a text that could be either is IPv4

    @property
    def everything(self) -> str:
        return "0.0.0.0/0" if self.number == 4 else "::/0"


# back to text


SCOPE_NAMES = {number: name for name, number in SCOPES.items()}
TABLE_NAMES = {number: name for name, number in TABLES.items()}


def pairs_text(*pairs: tuple[str, str | int | None]) -> str:
    return "".join(f" {word} {value}" for word, value in pairs if value is not None)
