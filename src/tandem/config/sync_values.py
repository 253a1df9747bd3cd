# SPDX-License-Identifier: GPL-2.0-or-later
"""Kinds of values that only `conntrack_sync` has: protocols, TCP states, sizes and secrets."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import replace

from tandem.config.problem import MASK, suggestion
from tandem.config.values import Kind, choice, integer, network, whole
from tandem.limits import SECRET_MAX, SECRET_MIN, TCP_STATES

PROTOCOLS = {  # IANA, "Assigned Internet Protocol Numbers"; those with a tracker in the kernel, and tunnels
    "icmp": 1, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51,
    "icmpv6": 58, "l2tp": 115, "sctp": 132, "udplite": 136,
}  # fmt: skip
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
STATE_NAMES = dict(enumerate(TCP_STATES[1:], 1))  # enum tcp_conntrack; a tracked flow is never in NONE

_SIZE = re.compile(r"([0-9]{1,10})([KMGkmg]?)")
_SHIFT = {"": 0, "K": 10, "M": 20, "G": 30}
_STATE_NUMBERS = {name: number for number, name in STATE_NAMES.items()}
_STATE = choice(*STATE_NAMES.values())
_KEY_ID = whole(1, 255)


def words(one: Kind) -> Kind:
    """Values of one kind with blanks between them, as config_get joins a list; the value is a tuple."""

    def convert(text: str) -> tuple[object, ...]:
        found = []
        for word in text.split():
            try:
                found.append(one.read(word))
            except ValueError as error:
                raise ValueError(str(error) if word == text else f"'{word}': {error}") from None
        if not found:
            raise ValueError("there is nothing in it")
        return tuple(found)

    return replace(one, convert=convert)


def _protocol(text: str) -> int:
    name = text.lower()
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    try:
        return integer(text, 0, 255)
    except ValueError:
        known = ", ".join(PROTOCOLS)
        reason = f"must be one of {known} or a number from 0 to 255"
        raise ValueError(reason + suggestion(text, PROTOCOLS)) from None


PROTOCOL = words(
    Kind(
        "the name or the number of a protocol",
        _protocol,
        lambda number: PROTOCOL_NAMES.get(number, str(number)),
        type="protocol",
    )
)
STATE = words(
    replace(_STATE, convert=lambda text: _STATE_NUMBERS[_STATE.convert(text)], write=STATE_NAMES.__getitem__)
)
ZONE = words(whole(0, 0xFFFF))
NETWORK = words(Kind("an IP address or a prefix", lambda text: str(network(text)), type="network"))


# sizes


def size(low: str, high: str) -> Kind:
    """A number of bytes, also with K, M or G for powers of 1024."""

    def read(text: str) -> int:
        match = _SIZE.fullmatch(text)
        if not match:
            raise ValueError
        return int(match[1]) << _SHIFT[match[2].upper()]

    def convert(text: str) -> int:
        number = read(text)
        if not read(low) <= number <= read(high):
            raise ValueError
        return number

    return Kind(
        f"bytes from {low} to {high} (K: 1024, M: 1024 K, G: 1024 M)",
        convert,
        size_text,
        type="size",
        unit="bytes",
        low=low,
        high=high,
    )


def size_text(number: int) -> str:
    """Return the shortest text of which `size` makes `number`."""
    for unit in ("G", "M", "K"):
        if number and number % (1 << _SHIFT[unit]) == 0:
            return f"{number >> _SHIFT[unit]}{unit}"
    return str(number)


# secrets


def _secret(text: str) -> bytes:
    if text == MASK:
        raise ValueError("is what tandem shows in the place of a secret: write the secret itself")
    if not text.isprintable():
        raise ValueError
    return _of_good_length(text.encode(), f"must be {SECRET.allowed}")


def _of_good_length(secret: bytes, reason: str) -> bytes:
    if not SECRET_MIN <= len(secret) <= SECRET_MAX:
        raise ValueError(reason)
    return secret


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError
    return text


def _key(text: str) -> tuple[int, bytes | str]:
    number, colon, rest = text.partition(":")
    if not colon:
        raise ValueError
    try:
        key_id = int(_KEY_ID.convert(number))
    except ValueError:
        raise ValueError from None
    return key_id, rest if rest.startswith("/") else _secret(rest)


SECRET = Kind(f"{SECRET_MIN} to {SECRET_MAX} bytes of printable text", _secret)
SECRET_FILE = Kind("the absolute path of a file", _path, type="file")
KEY = Kind("ID:FILE (or ID:SECRET) with an id from 1 to 255 and the absolute path of a file", _key)


def read_secret(path: str) -> bytes:
    """Return the secret in a file, without a newline at its end; ValueError with the whole reason.

    The file must belong to root, or to the user who runs `tandem check`, and must be closed to all others.
    """
    try:
        # O_NONBLOCK: a named pipe must not keep the planner waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not an ordinary file")
        if status.st_uid not in (0, os.geteuid()):
            raise ValueError(f"{path} does not belong to root: its owner could read or change it")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise ValueError(f"{path} is open to others (mode {mode:04o}): chmod 600 it")
        data = os.read(descriptor, SECRET_MAX + 3)  # with \r\n, and one byte more
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    return _of_good_length(data, f"{path} must hold {SECRET_MIN} to {SECRET_MAX} bytes")


def _sync_after(text: str) -> int:
    if text not in ("0", "2"):
        raise ValueError
    return int(text)


SYNC_AFTER = Kind("0 or 2", _sync_after, type="choice", unit="s", choices=("0", "2"))
