# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem init`: from a few answers to a configuration, on two routers."""
