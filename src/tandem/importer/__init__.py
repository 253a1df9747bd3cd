# SPDX-License-Identifier: GPL-2.0-or-later
"""Other programs' configurations to Tandem's. Used by the command line only, never by the daemon."""
