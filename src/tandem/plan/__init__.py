# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the planner process: what the configuration needs, as netlink messages."""
