# SPDX-License-Identifier: GPL-2.0-or-later
"""How people ask and command the daemon: control socket, command line, status."""

DEFAULT_SOCKET = "/var/run/tandem/control.sock"
