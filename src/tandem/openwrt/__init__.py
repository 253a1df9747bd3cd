# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenWrt's side of the daemon: ubus and netifd. A system without libubus loads none of these modules."""

from __future__ import annotations

import os


def find_libubus() -> str | None:
    """Return the path of the installed libubus, or None.

    The file is called `libubus.so` in OpenWrt 19.07 and `libubus.so.<date of the ABI>` since, without a
    link for the linker; so neither dlopen("libubus.so") nor ctypes.util.find_library finds it.
    """
    directories = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), "/lib", "/usr/lib"]
    for directory in filter(None, directories):
        try:
            found = [name for name in os.listdir(directory) if name.startswith("libubus.so")]
        except OSError:
            continue
        if found:
            return f"{directory}/{max(found)}"  # after an upgrade of the ABI the old file may still be there
    return None
