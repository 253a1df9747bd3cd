# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the tests find genuine pieces of OpenWrt; those that need one skip where it is not.

TANDEM_OPENWRT_USR   a prefix with libubus, ubusd, ubus, uci built for this machine (/opt/openwrt/usr)
TANDEM_OPENWRT_ROOT  an unpacked OpenWrt root file system for this architecture (/opt/openwrt/root)
TANDEM_OPENWRT_ROOT23  the same of 23.05, where Python may be missing (/opt/openwrt/root23)
TANDEM_OPENWRT_MAIN  the same of OpenWrt's main branch, for any processor (/opt/openwrt/main)
TANDEM_OPENWRT_LUCI  a directory with checkouts of LuCI's sources: 24.10, 25.12, main (/opt/openwrt/luci)
TANDEM_I386_ROOT     a 32-bit root file system with Python, pyroute2, pytest, pytest-timeout, hypothesis and,
                     under the path that TANDEM_OPENWRT_USR names, the same as there (/opt/i386)
TANDEM_OPENWRT_APK   what makes it a router with apk: `apk`, and the lib/functions.sh of such a release
                     (/opt/openwrt/apk)
TANDEM_APK           an apk of this machine that can make packages (PATH, TANDEM_OPENWRT_USR/bin/apk)
TANDEM_ODHCPD        an odhcpd built for this machine, newer than the root's (/opt/openwrt-odhcpd/sbin/odhcpd)
TANDEM_OPENWRT_GATE  libnetfilter_queue.so.1 and the Python module netfilterqueue, built for the root
                     (/opt/openwrt/gate)
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The network that each /etc/config/network has.
LOOPBACK = """
config interface 'loopback'
	option device 'lo'
	option proto 'static'
	option ipaddr '127.0.0.1'
	option netmask '255.0.0.0'
"""

# Shell: a throw-away overlay of ROOT in the directory $WORK, entered by `chroot .` from then on. What needs
# a bus mounts its directory on tmp/run/ubus, and starts ubusd by UBUSD.
OVERLAY = """
set -e
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/upper" "$WORK/work" "$WORK/root"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
cd "$WORK/root"
mkdir -p dev proc sys tmp/run/ubus tmp/lock tmp/state tmp/lib
[ -e var ] || ln -s tmp var
mount --bind /dev dev
mount -t proc proc proc
"""
UBUSD = """
chroot . /sbin/ubusd &
until chroot . ubus list >/dev/null 2>&1; do sleep 0.05; done
"""

USR = Path(os.environ.get("TANDEM_OPENWRT_USR", "/opt/openwrt/usr"))
ROOT = Path(os.environ.get("TANDEM_OPENWRT_ROOT", "/opt/openwrt/root"))
ROOT23 = Path(os.environ.get("TANDEM_OPENWRT_ROOT23", "/opt/openwrt/root23"))
MAIN = Path(os.environ.get("TANDEM_OPENWRT_MAIN", "/opt/openwrt/main"))
LUCI = Path(os.environ.get("TANDEM_OPENWRT_LUCI", "/opt/openwrt/luci"))
I386_ROOT = Path(os.environ.get("TANDEM_I386_ROOT", "/opt/i386"))
APK = Path(os.environ.get("TANDEM_OPENWRT_APK", "/opt/openwrt/apk"))
ODHCPD = Path(os.environ.get("TANDEM_ODHCPD", "/opt/openwrt-odhcpd/sbin/odhcpd"))
GATE = Path(os.environ.get("TANDEM_OPENWRT_GATE", "/opt/openwrt/gate"))


def needs(*paths: Path) -> pytest.MarkDecorator:
    """Skips a test, or with `pytestmark` a module, and says which of the paths are missing."""
    missing = [str(path) for path in paths if not path.exists()]
    reason = f"no {', no '.join(missing)} (see tests/openwrt_pieces.py)"
    return pytest.mark.skipif(bool(missing), reason=reason)


_UBUS = ("lib/libubus.so", "sbin/ubusd", "bin/ubus")
needs_ubus = needs(*(USR / path for path in _UBUS))
needs_odhcpd = needs(ODHCPD)
needs_root = needs(ROOT / "sbin/ubusd", ROOT / "sbin/netifd", ROOT / "usr/bin/python3")
needs_i386 = needs(I386_ROOT / "usr/bin/python3", *(I386_ROOT / str(USR / path)[1:] for path in _UBUS))
