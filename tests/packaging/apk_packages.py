# SPDX-License-Identifier: GPL-2.0-or-later
"""openwrt-feed/standalone/apk.py and adb.py as modules, and a package with one of everything."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from tests.packaging.packages import FEED

CONTROL = """Package: sample
Version: 1.2-r3
Depends: libc, bar>=1.0, zed, !evil, aaa=2, fuzzy~3
License: MIT
Source: feeds/sample
Maintainer: Somebody <somebody@example.org>
Architecture: all
"""
ENVIRONMENT = {
    "IPK_CONTROL": CONTROL,
    "IPK_DESCRIPTION": "  One of\n   everything",
    "IPK_CONFFILES": "/etc/config/sample",
    "IPK_POSTINST": "#!/bin/sh\necho installed\n",
    "IPK_PRERM": "#!/bin/sh\necho removed\n",
    "SOURCE_DATE_EPOCH": "1700000000",
}


def module(name: str) -> ModuleType:
    """A module of openwrt-feed/standalone, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FEED / f"standalone/{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def stage(directory: Path) -> Path:
    """The files of the sample: modes, an empty one, equal ones, a link, a large one, an odd order."""
    directory.mkdir()
    for path, content, mode in (
        ("etc/config/sample", b"config\n", 0o600),
        ("etc/empty", b"", 0o644),
        ("etc-odd/same", b"config\n", 0o644),
        ("usr/bin/program", b"#!/bin/sh\n", 0o755),
        ("usr/share/large", bytes(range(256)) * 300, 0o644),
    ):
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)
    (directory / "usr/bin/link").symlink_to("program")
    (directory / "var/nothing").mkdir(parents=True)
    for path in [directory, *directory.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.lchown(path, os.geteuid(), os.getegid())
    return directory
