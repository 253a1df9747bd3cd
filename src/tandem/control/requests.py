# SPDX-License-Identifier: GPL-2.0-or-later
"""The requests that the daemon answers: each with its arguments, which are optional texts.

Made from src/tandem/control/command_table.py by `make generated`.
"""

from __future__ import annotations

REQUESTS: dict[str, tuple[str, ...]] = {
    "status": ("only",),
    "history": (),
    "failover": ("group", "force", "by"),
    "standby": ("group", "force", "once", "by"),
    "resume": ("group", "by"),
    "reload": (),
    "conntrack": (),
    "conntrack_list": ("peer", "cursor"),
    "examine": ("listen",),
    "services": (),
    "checks": (),
    "service": ("action", "name", "by"),
    "upgrade_peer": ("peer", "order"),
    "version": (),
}
# The requests that are methods of the object `tandem` on ubus.
METHODS = (
    "status",
    "history",
    "failover",
    "standby",
    "resume",
    "reload",
    "conntrack",
    "services",
    "checks",
    "service",
)
