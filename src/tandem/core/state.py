# SPDX-License-Identifier: GPL-2.0-or-later
"""The roles of RFC 9568 section 6.4 and the words that users know for them."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """State of a virtual router. FAULT is not a state: it is INITIALIZE with reasons."""

    INITIALIZE = "INIT"
    BACKUP = "BACKUP"
    ACTIVE = "MASTER"


def user_state(role: Role, faulty: bool, stopped: bool = False) -> str:
    """keepalived's word for the state: MASTER, BACKUP, FAULT, STOP, or INIT before the start."""
    if role is not Role.INITIALIZE:
        return str(role.value)
    return "STOP" if stopped else "FAULT" if faulty else "INIT"
