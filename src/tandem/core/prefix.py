# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways to install a global IPv6 virtual address that leave router advertisements as they should be.

An RA daemon announces the prefix of each address of its interface, with the lifetime of that address. With
the short lifetime that is the dead man's switch of all other addresses, odhcpd announces a prefix for two
seconds, and does so every four seconds (its router.c; dnsmasq's `constructor:` likewise).

    BESIDE   as /128 with the short lifetime. The router has an address of its own in the prefix: that one is
             announced, and an RA daemon passes a /128 by.
    ALONE    with its prefix and an ordinary lifetime. Nobody else holds the prefix on this router. The switch
             is then a set of nftables whose elements expire, see plan/encode_switch.py.
    PLAIN    with its prefix and the short lifetime, where the kernel has no nftables.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Form(Enum):
    """One of the ways above."""

    BESIDE = "beside"
    ALONE = "alone"
    PLAIN = "plain"


def form_of(address: bytes, prefixlen: int, own: Iterable[tuple[bytes, int]], switch: bool) -> Form:
    """Return the form of a packed address for a router that has the addresses `own` on that interface.

    `own` are packed addresses with their prefix lengths. `switch` says whether the nftables are in place.
    """
    number = int.from_bytes(address, "big")
    for other, length in own:
        if length <= prefixlen and (number ^ int.from_bytes(other, "big")) >> (128 - length) == 0:
            return Form.BESIDE
    return Form.ALONE if switch else Form.PLAIN
