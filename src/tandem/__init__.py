# SPDX-License-Identifier: GPL-2.0-or-later
"""Tandem: two OpenWrt routers, one gateway."""

__version__ = "0.1.0"
