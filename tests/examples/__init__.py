# SPDX-License-Identifier: GPL-2.0-or-later
"""Examples with real servers behind one address: `make demo ARGS="--example nginx"`."""
