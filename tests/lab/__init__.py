# SPDX-License-Identifier: GPL-2.0-or-later
"""A network laboratory in namespaces: real kernel, real cables to pull, real daemons."""

from __future__ import annotations

from .capture import Capture
from .lab import Host, Lab, Port
from .netns import LabError, remove_stale
from .router import Daemon, Frr, Keepalived, Router, Tandem
from .scenario import Instance
from .topology import (
    FAR,
    LAN_GATEWAY,
    PROVIDER,
    WAN_ADDRESS,
    LanLab,
    SeedEnds,
    SeedLab,
    seed_daemon,
    seed_instances,
    synced_daemon,
)
from .traffic import Download, Outage, Pings, Service
from .wait import NotReached, stays, wait_until

__all__ = [
    "FAR", "LAN_GATEWAY", "PROVIDER", "WAN_ADDRESS",
    "Capture", "Daemon", "Download", "Frr", "Host", "Instance", "Keepalived", "Lab", "LabError", "LanLab",
    "NotReached", "Outage", "Pings", "Port", "Router", "SeedEnds", "SeedLab", "Service", "Tandem",
    "remove_stale", "seed_daemon", "seed_instances", "stays", "synced_daemon", "wait_until",
]  # fmt: skip
