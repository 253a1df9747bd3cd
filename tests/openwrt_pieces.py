# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the tests find genuine pieces of OpenWrt; those that need one skip where it is not.

TANDEM_OPENWRT_USR   a prefix with libubus, ubusd, ubus, uci built for this machine (/opt/openwrt/usr)
TANDEM_OPENWRT_ROOT  an unpacked OpenWrt root file system for this architecture (/opt/openwrt/root)
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

USR = Path(os.environ.get("TANDEM_OPENWRT_USR", "/opt/openwrt/usr"))
ROOT = Path(os.environ.get("TANDEM_OPENWRT_ROOT", "/opt/openwrt/root"))


def needs(*paths: Path) -> pytest.MarkDecorator:
    """Skips a test, or with `pytestmark` a module, and says which of the paths are missing."""
    missing = [str(path) for path in paths if not path.exists()]
    reason = f"no {', no '.join(missing)} (see tests/openwrt_pieces.py)"
    return pytest.mark.skipif(bool(missing), reason=reason)


needs_ubus = needs(USR / "lib/libubus.so", USR / "sbin/ubusd", USR / "bin/ubus")
needs_root = needs(ROOT / "sbin/ubusd", ROOT / "sbin/netifd", ROOT / "usr/bin/python3")
