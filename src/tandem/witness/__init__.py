# SPDX-License-Identifier: GPL-2.0-or-later
"""The witness: a third party that gives its vote to one router of a pair."""
