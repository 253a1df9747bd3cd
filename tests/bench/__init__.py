# SPDX-License-Identifier: GPL-2.0-or-later
"""keepalived and tandemd on the same lab, in turn."""
