# SPDX-License-Identifier: GPL-2.0-or-later
"""Kinds of values: which texts an option allows, and how a text becomes a plain value and a text again.

A converter raises ValueError: without a text when "must be <allowed>" says everything, otherwise with the
whole reason.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Host = ipaddress.IPv4Address | ipaddress.IPv6Address

TRUE = ("1", "on", "true", "yes", "enabled")  # config_get_bool of OpenWrt's functions.sh
FALSE = ("0", "off", "false", "no", "disabled")
_WHOLE = re.compile(r"(-?)(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})")
_DECIMAL = re.compile(r"([0-9]{1,7})(?:\.([0-9]{0,9}))?")
_NAME = re.compile(r"[^\s'\"]{1,64}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?")
_OPERATORS = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1", "2>/dev/null", ">/dev/null"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value. The fields after `write` describe it to programs that edit a configuration."""

    allowed: str  # the words that follow "must be"
    convert: Callable[[str], Any]
    write: Callable[[Any], str] = str  # the inverse of `convert`
    type: str = "text"
    unit: str = ""
    low: str = ""
    high: str = ""
    step: str = ""
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> Any:
        """Return the value of the text; ValueError with the whole reason."""
        try:
            return self.convert(text)
        except ValueError as error:
            raise ValueError(str(error) or f"must be {self.allowed}") from None


# numbers


def integer(text: str, low: int, high: int) -> int:
    """Return a whole number, decimal or 0x hexadecimal, in low..high; ValueError names the range."""
    match = _WHOLE.fullmatch(text)
    if match:
        number = int(match[2], 16 if match[2][:2] in ("0x", "0X") else 10)
        number = -number if match[1] else number
        if low <= number <= high:
            return number
    raise ValueError(f"must be a whole number from {low} to {high}")


def whole(low: int, high: int, unit: str = "") -> Kind:
    """A whole number; `unit` is for people and for editors."""
    return Kind(
        f"a whole number from {low} to {high}",
        lambda text: integer(text, low, high),
        type="integer",
        unit=unit,
        low=str(low),
        high=str(high),
    )


def fixed_point(text: str, places: int) -> int:
    """Return a decimal number exactly, in units of 10^-places; ValueError when it has more places."""
    scale: int = 10**places
    match = _DECIMAL.fullmatch(text)
    if not match:
        raise ValueError
    fraction = (match[2] or "").rstrip("0")
    if len(fraction) > places:
        raise ValueError
    return int(match[1]) * scale + int(fraction.ljust(places, "0") or "0")


def decimal(value: int, places: int) -> str:
    """Return the shortest text of which `fixed_point` makes `value`."""
    whole_part, fraction = divmod(value, 10**places)
    digits = f"{fraction:0{places}d}".rstrip("0")
    return f"{whole_part}.{digits}" if digits else str(whole_part)


def seconds(low: str, high: str, places: int = 3) -> Kind:
    """Seconds with decimals; the value is an int in units of 10^-places (3: ms, 2: cs)."""
    bounds = fixed_point(low, places), fixed_point(high, places)
    step = decimal(1, places)

    def convert(text: str) -> int:
        value = fixed_point(text, places)
        if not bounds[0] <= value <= bounds[1]:
            raise ValueError
        return value

    return Kind(
        f"seconds from {low} to {high} in steps of {step}",
        convert,
        lambda value: decimal(value, places),
        type="decimal",
        unit="s",
        low=low,
        high=high,
        step=step,
    )


def _switch(text: str) -> bool:
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ValueError


SWITCH = Kind(
    "0 or 1 (or off/on, no/yes, false/true)", _switch, lambda value: str(int(value)), type="boolean"
)


def choice(*words: str) -> Kind:
    """One of the words, in any case; the value is the word as it stands in `words`."""
    known = {word.lower(): word for word in words}

    def convert(text: str) -> str:
        try:
            return known[text.lower()]
        except KeyError:
            raise ValueError from None

    listed = ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0]
    return Kind(listed, convert, type="choice", choices=words)


# names and texts


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or not text.isprintable():
        raise ValueError
    return text


def device(text: str) -> str:
    """Return the name of a network interface; ValueError by the rules of the kernel's dev_valid_name()."""
    valid = 1 <= len(text.encode()) <= 15 and text not in (".", "..") and text.isprintable()
    if not valid or any(c.isspace() or c in "/:" for c in text):
        raise ValueError(
            f"'{text}' can't be the name of an interface: 1 to 15 bytes without blanks, '/' and ':'"
        )
    return text


def _device(text: str) -> str:
    try:
        return device(text)
    except ValueError:
        raise ValueError from None


def _text(text: str) -> str:
    if len(text) > 255 or not text.isprintable():
        raise ValueError
    return text


def _user(text: str) -> tuple[str, str | None]:
    words = text.split()
    if not 1 <= len(words) <= 2 or not all(_USER.fullmatch(word) for word in words):
        raise ValueError
    return words[0], words[1] if len(words) == 2 else None


def _path(text: str) -> str:
    if not text.startswith("/") or len(text) > 255 or not text.isprintable():
        raise ValueError
    return text


def _command(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"can't be split into words: {str(error).lower()}") from None
    if not words or not words[0].startswith("/"):
        raise ValueError
    if any(word in _OPERATORS for word in _bare(text)):
        raise ValueError("no shell runs this: for | > && and their like write /bin/sh -c '...'")
    return words


def _bare(text: str) -> list[str]:
    """Return the words with their quotes: an operator in quotes is meant literally."""
    try:
        return shlex.split(text, posix=False)
    except ValueError:
        return []


NAME = Kind("1 to 64 printable characters without blanks or quotes", _name, type="name")
DEVICE = Kind(
    "the name of an interface: 1 to 15 bytes without blanks, '/' and ':'", _device, type="interface"
)
TEXT = Kind("at most 255 printable characters", _text)
USER = Kind(
    "'user' or 'user group'", _user, lambda names: " ".join(name for name in names if name), type="user"
)
PATH = Kind("an absolute path of at most 255 printable characters", _path, type="file")
COMMAND = Kind(
    "a command that begins with the absolute path of a program", _command, shlex.join, type="command"
)


def _password(text: str) -> bytes:
    if not text or not text.isprintable():
        raise ValueError
    return text.encode()


PASSWORD = Kind("1 to 8 printable characters", _password)


# addresses


def host(text: str) -> Host:
    """Return an address without prefix length and zone; ValueError."""
    if "%" in text:
        raise ValueError(f"'{text}': an address is written without its zone (%...) here")
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"'{text}' is not an IP address") from None


def interface(text: str) -> Interface:
    """Return an address with or without prefix length; ValueError."""
    address, slash, length = text.partition("/")
    found = host(address)
    netmask = r"[0-9]{1,3}|[0-9.]{7,15}" if found.version == 4 else r"[0-9]{1,3}"
    if slash and not re.fullmatch(netmask, length):
        raise ValueError(f"'{text}': the prefix length must be 0 to {found.max_prefixlen}")
    try:
        return ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f"'{text}': the prefix length must be 0 to {found.max_prefixlen}") from None


def network(text: str) -> Network:
    """Return a prefix without host bits; ValueError names the prefix that may be meant."""
    found = interface(text)
    if found.ip != found.network.network_address:
        raise ValueError(f"'{text}' has host bits set; is {found.network} meant?")
    return found.network


def unicast(address: Host) -> Host:
    """Return `address` if a host can own it; ValueError."""
    broadcast = address.version == 4 and (int(address) == 0xFFFFFFFF or int(address) >> 24 == 0)
    if address.is_multicast or address.is_unspecified or address.is_loopback or broadcast:
        raise ValueError(f"{address} is not a unicast address that a router can own")
    return address


def _source(text: str) -> str:
    return str(unicast(host(text)))


def multicast_group(family: int) -> Kind:
    """A group that adverts may be sent to (RFC 9568 sections 5.1.1.2 and 5.1.2.2)."""
    block = ipaddress.ip_network("224.0.0.0/4" if family == 4 else "ff00::/8")

    def convert(text: str) -> str:
        group = host(text)
        if group not in block:
            raise ValueError
        return str(group)

    return Kind(f"an IPv{family} multicast address ({block})", convert, type="address")


def _any_group(text: str) -> str:
    group = host(text)
    if not group.is_multicast:
        raise ValueError
    return str(group)


ADDRESS = Kind("a unicast IP address", _source, type="address")
GROUP = Kind("a multicast address", _any_group, type="address")
