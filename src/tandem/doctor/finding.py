# SPDX-License-Identifier: GPL-2.0-or-later
"""A finding of the doctor: a problem of a router or of a pair, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is a fixed word for scripts; `router` says whose trouble it is, "" for both."""

    check: str
    what: str
    advice: str
    router: str = ""
