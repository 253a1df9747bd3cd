# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks that follow the role: one address from the provider for all routers of a group."""
