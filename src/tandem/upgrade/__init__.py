# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem upgrade`: both routers get newer packages, one after the other, and no connection breaks."""
