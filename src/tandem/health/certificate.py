# SPDX-License-Identifier: GPL-2.0-or-later
"""When a certificate expires: RFC 5280 section 4.1 (TBSCertificate), in DER. Pure."""

from __future__ import annotations

import calendar

_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


def expiry(certificate: bytes) -> int:
    """Return notAfter in seconds since the epoch. ValueError: this is no certificate."""
    _, outer, _ = _element(certificate, 0)
    _, fields, _ = _element(outer, 0)
    tag, _, at = _element(fields, 0)
    skipped = 3 if tag == _VERSION else 2  # serialNumber, signature, issuer
    for _ in range(skipped):
        tag, _, at = _element(fields, at)
    tag, validity, _ = _element(fields, at)
    _, _, second = _element(validity, 0)
    kind, text, _ = _element(validity, second)
    if tag != _SEQUENCE or kind not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError
    digits = text.decode("ascii").removesuffix("Z")
    if kind == _UTC_TIME:  # section 4.1.2.5.1: 50 to 99 are of the last century
        digits = ("19" if digits >= "50" else "20") + digits
    if len(digits) != 14 or not digits.isdigit():
        raise ValueError
    numbers = [int(digits[:4]), *(int(digits[at : at + 2]) for at in range(4, 14, 2))]
    return calendar.timegm((*numbers, 0, 0, 0))


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Return tag and content of the element at an offset, and the offset behind it. ValueError."""
    if len(data) < at + 2:
        raise ValueError
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or len(data) < start + size:
            raise ValueError
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    if len(data) < start + length:
        raise ValueError
    return tag, data[start : start + length], start + length
