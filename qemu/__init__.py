# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual machines as routers of the lab: real kernels, x86_64 and aarch64. See README.md."""
