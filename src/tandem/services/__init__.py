# SPDX-License-Identifier: GPL-2.0-or-later
"""Services that follow the role: the shell around core/services.py. Loaded only where `config service` is."""
