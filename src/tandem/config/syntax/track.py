# SPDX-License-Identifier: GPL-2.0-or-later
"""Trackers: interfaces and scripts whose state counts, with its weight."""

from __future__ import annotations

from tandem.config import values
from tandem.config.syntax.words import Once, Words, number, unknown_word
from tandem.core.settings import Track

MOST_WEIGHT = 253  # keepalived's bound: a priority is 1..254


def read_weight(text: str) -> tuple[int, bool]:
    """Read `N [reverse|noreverse]`; ValueError."""
    words = text.split()
    if not 1 <= len(words) <= 2 or words[1:] not in ([], ["reverse"], ["noreverse"]):
        raise ValueError(f"must be a whole number from -{MOST_WEIGHT} to {MOST_WEIGHT}, then maybe 'reverse'")
    return values.integer(words[0], -MOST_WEIGHT, MOST_WEIGHT), words[1:] == ["reverse"]


def write_weight(found: tuple[int, bool]) -> str:
    """Return the weight as `read_weight` reads it."""
    return f"{found[0]} {'reverse' if found[1] else 'noreverse'}"


def read_track(kind: str, text: str, default: tuple[int, bool]) -> Track:
    """Read `NAME [weight N] [reverse|noreverse]`; the default is (weight, reverse)."""
    words = Words(text)
    name = ""
    fields = Once()
    for word in words:
        if not name:
            name = word
        elif word == "weight":
            fields["weight"] = words.argument(word, number(-MOST_WEIGHT, MOST_WEIGHT))
        elif word in ("reverse", "noreverse"):
            fields["reverse"] = word == "reverse"
        else:
            raise unknown_word(word, {"weight", "reverse", "noreverse"}, set())
    if not name:
        raise ValueError("there is no name in it")
    if kind == "interface":
        values.device(name)
    return Track(kind, name, fields.get("weight", default[0]), fields.get("reverse", default[1]))


def write_track(found: Track) -> str:
    """Return the tracker as `read_track` reads it."""
    return f"{found.name} weight {write_weight((found.weight, found.reverse))}"
