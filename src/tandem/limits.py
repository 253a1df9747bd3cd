# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits and names that the configuration shares with the rooms that work with them."""

from __future__ import annotations

SECRET_MIN, SECRET_MAX = 16, 64  # bytes; 64: the longest key that BLAKE2b takes
NETWORKS_MAX, ZONES_MAX = 32, 128  # that the kernel's filter holds; beyond them Python filters
TCP_STATES = (  # enum tcp_conntrack
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
    "SYN_SENT2",
)  # fmt: skip
