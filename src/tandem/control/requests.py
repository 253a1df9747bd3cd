# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be asked of the daemon: each request with its arguments, all of them text and optional.

Made from src/tandem/control/command_table.py by `make generated`.
"""

from __future__ import annotations

REQUESTS: dict[str, tuple[str, ...]] = {
    "status": (),
    "history": (),
    "failover": ("group", "force", "by"),
    "standby": ("group", "force", "once", "by"),
    "resume": ("group", "by"),
    "reload": (),
    "conntrack": (),
    "conntrack_list": ("peer", "cursor"),
    "examine": ("listen",),
    "version": (),
}
# Of these, the methods of the object `tandem` on ubus.
METHODS = ("status", "history", "failover", "standby", "resume", "reload", "conntrack")
