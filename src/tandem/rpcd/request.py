# SPDX-License-Identifier: GPL-2.0-or-later
"""A call of rpcd's plugin: arguments of checked type and bounded size, and the files that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tandem.control import DEFAULT_SOCKET
from tandem.places import CONFIG, DHCP, FIREWALL, NETWORK, SECRET_FILE

LONGEST_TEXT = 4096  # characters
MOST_ITEMS = 64  # of a list


class RequestError(Exception):
    """The call can't be carried out; the text is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a router."""

    config: str = CONFIG
    network: str = NETWORK
    dhcp: str = DHCP
    firewall: str = FIREWALL
    secret: str = SECRET_FILE
    control: str = DEFAULT_SOCKET
    state: str = "/var/run/tandem"


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of a call, each of which may be absent. Its methods raise RequestError."""

    values: dict[str, Any]
    files: Files

    def text(self, name: str, longest: int = LONGEST_TEXT) -> str:
        """Return a text; "" when it is absent."""
        value = self.values.get(name, "")
        if not isinstance(value, str) or len(value) > longest:
            raise RequestError(f"the argument {name} is a text of at most {longest} characters")
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number in low..high."""
        value = self.values.get(name, default)
        if type(value) is not int or not low <= value <= high:
            raise RequestError(f"the argument {name} is a whole number from {low} to {high}")
        return value

    def switch(self, name: str, default: bool = False) -> bool:
        """Return a truth value."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise RequestError(f"the argument {name} is true or false")
        return value

    def items(self, name: str) -> list[str]:
        """Return a list of texts."""
        value = self.values.get(name, [])
        if not isinstance(value, list) or len(value) > MOST_ITEMS:
            raise RequestError(f"the argument {name} is a list of at most {MOST_ITEMS} texts")
        if not all(isinstance(item, str) and len(item) <= LONGEST_TEXT for item in value):
            raise RequestError(f"the argument {name} is a list of texts")
        return value
