# SPDX-License-Identifier: GPL-2.0-or-later
"""One word for what a takeover between this router and a peer would do to connections."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def step(peer: Mapping[str, Any]) -> str:
    """Return "in step", "out of step", "idle" (nobody streams) or "down" for the status of a link."""
    if peer["state"] != "up":
        return "down"
    if not (peer["streaming"] or peer["peer_streaming"]):
        return "idle"
    behind = (peer["streaming"] and not peer["in_step"], peer["peer_streaming"] and not peer["held_in_step"])
    return "out of step" if any(behind) else "in step"
