# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios with virtual machines as routers; what they are made of is in qemu/."""
