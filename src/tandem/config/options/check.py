# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the section `check`, in the words of keepalived's checkers where they fit."""

from __future__ import annotations

import re

from tandem.config.option import NEXT, Option, Table
from tandem.config.options.common import name
from tandem.config.syntax.track import read_weight, write_weight
from tandem.config.values import (
    COMMAND,
    DEVICE,
    PATH,
    TEXT,
    USER,
    Kind,
    choice,
    fixed_point,
    host,
    integer,
    seconds,
    whole,
)

CHECKS_MAX = 256
KINDS = ("tcp", "http", "https", "dns", "ping", "arp", "process", "file", "script")
NETWORK = ("tcp", "http", "https", "dns", "ping", "arp")  # kinds that ask a host
RECORDS = ("A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT")
WEIGHT = Kind("a whole number from -253 to 253, then maybe 'reverse'", read_weight, write_weight)

_URL_PATH = re.compile(r"/[!-~]{0,254}")
_DIGEST = re.compile(r"(?:[0-9a-f]{32}|[0-9a-f]{64})")
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?(?::[0-9]{1,5})?")
_DOMAIN = re.compile(r"\.|[!-,/-~-]{1,63}(?:\.[!-,/-~-]{1,63})*\.?")
_INTERVAL = seconds("0.1", "86400")


def _matching(pattern: re.Pattern[str], allowed: str, length: int = 255) -> Kind:
    def convert(text: str) -> str:
        if not pattern.fullmatch(text) or len(text) > length:
            raise ValueError
        return text

    return Kind(allowed, convert)


def _host(text: str) -> str:
    found = host(text)
    if found.is_multicast or found.is_unspecified:
        raise ValueError
    return str(found)


def _statuses(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    low = integer(first, 100, 599)
    high = integer(last, low, 599) if last else low
    return low, high


def _write_statuses(found: tuple[int, int]) -> str:
    return str(found[0]) if found[0] == found[1] else f"{found[0]}-{found[1]}"


def _milliseconds(text: str) -> int:
    found = fixed_point(text, 0)
    if not 0 <= found <= 60_000:
        raise ValueError
    return found


def _new(kind: Kind, default: str | None, text: str, field: str, **more: bool) -> Option:
    return Option(kind, default, text, field, since=NEXT, **more)  # type: ignore[arg-type]


CHECK: Table = {
    "name": name("track_check, services and real servers name the check by this.", "name"),
    "kind": _new(choice(*KINDS), None, "What is tried: see docs/checks.md.", "kind", required=True),
    "host": _new(
        Kind("an IP address", _host, type="address"),
        None,
        "tcp, http, https, dns, ping, arp: the address that is asked. Default: that of the real server.",
        "host",
    ),
    "port": _new(
        whole(0, 65535),
        "0",
        "tcp, http, https, dns: the port. 0: 80, 443 or 53, or that of the real server.",
        "port",
    ),
    "source": _new(
        Kind("an IP address", _host, type="address"), None, "It is asked from this address.", "source"
    ),
    "interface": _new(DEVICE, None, "It is asked on this network or device; arp needs one.", "interface"),
    "interval": _new(_INTERVAL, "1", "It is tried in this interval.", "interval_ms"),
    "timeout": _new(_INTERVAL, None, "A try that takes longer is bad. Default: interval.", "timeout_ms"),
    "rise": _new(whole(1, 1000), "1", "So many good tries in sequence mean up.", "rise"),
    "fall": _new(
        whole(1, 1000),
        "3",
        "So many bad tries in sequence mean down; one more than keepalived's retry.",
        "fall",
    ),
    "delay_before_retry": _new(
        seconds("0", "86400"),
        "0",
        "It is tried again so soon while the last tries contradict the state; 0: in the interval.",
        "delay_before_retry_ms",
    ),
    "weight": Option(
        WEIGHT,
        "0",
        "The priority that the check is worth where track_check names no weight; 0: down is a fault.",
        since=NEXT,
    ),
    "path": _new(
        _matching(_URL_PATH, "a path that begins with / and has no blanks"),
        "/",
        "http, https: this is asked for.",
        "path",
    ),
    "virtualhost": _new(
        _matching(_HOST_NAME, "the name of a host, or with a port"),
        None,
        "http, https: the name of the server in the request and in TLS (SNI). Default: its address.",
        "virtualhost",
    ),
    "status": _new(
        Kind("a status from 100 to 599, or a range as in 200-299", _statuses, _write_statuses),
        None,
        "http, https: these statuses are good. Default: 200-299.",
        "status",
        many=True,
    ),
    "text": _new(TEXT, None, "http, https, file: the page, or the file, contains this.", "text"),
    "digest": _new(
        _matching(_DIGEST, "32 (MD5, as genhash prints it) or 64 (SHA-256) digits 0-9 and a-f"),
        None,
        "http, https: the page has this digest.",
        "digest",
    ),
    "certificate_days": _new(
        whole(0, 3650),
        "0",
        "https: the certificate is valid for so many days more; 0: it may have expired.",
        "certificate_days",
    ),
    "query": _new(_matching(_DOMAIN, "a domain name"), ".", "dns: the name that is asked for.", "query"),
    "record": _new(choice(*RECORDS), "SOA", "dns: the type of the records that are asked for.", "record"),
    "answer": _new(
        TEXT,
        None,
        "dns: one of the records is this: an address, a name, or as dig +short prints it, without quotes and"
        " final dots. Default: any.",
        "answer",
    ),
    "count": _new(whole(1, 20), "1", "ping: so many are sent at once.", "count"),
    "loss": _new(whole(0, 99, "%"), "0", "ping: so many percent of them may be lost.", "loss"),
    "latency": _new(
        Kind("milliseconds from 0 to 60000", _milliseconds, type="integer", unit="ms", low="0", high="60000"),
        "0",
        "ping: a longer round trip, on average, is bad, in ms; 0: any is good.",
        "latency_ms",
    ),
    "process": _new(
        TEXT, None, "process: a process of this name runs; with a slash, of this program.", "process"
    ),
    "file": _new(PATH, None, "file: this file is there.", "file"),
    "script": _new(COMMAND, None, "script: the command; exit status 0 is good.", "script"),
    "user": Option(
        USER,
        None,
        "script: it runs as this user, and group. Default: script_user of globals.",
        shown=lambda found: (found.user, found.group) if found.user else None,
        since=NEXT,
    ),
}
