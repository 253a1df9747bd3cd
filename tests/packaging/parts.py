# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts into which OpenWrt splits Python's standard library, and which of them Tandem's package names.

They are those of openwrt/packages, lang/python/python3/files/python3-package-*.mk. What is in no part of
its own is in python3-light, which needs python3-base.
"""

from __future__ import annotations

import re

from tests.packaging.packages import FEED

SPLIT = {
    "asyncio": ("asyncio",),
    "cgi": ("cgi", "cgitb"),  # until Python 3.10
    "codecs": ("unicodedata", "_multibytecodec"),
    "ctypes": ("ctypes", "_ctypes"),
    "dbm": ("dbm", "_dbm", "_gdbm", "shelve"),
    "decimal": ("decimal", "_decimal", "_pydecimal"),
    "distutils": ("distutils",),  # until Python 3.11
    "logging": ("logging",),
    "lzma": ("lzma", "_lzma"),
    "multiprocessing": ("multiprocessing", "_multiprocessing"),
    "ncurses": ("curses", "_curses"),
    "openssl": ("ssl", "_ssl", "_hashlib"),
    "pydoc": ("pydoc", "doctest", "pydoc_data"),
    "readline": ("readline",),
    "sqlite3": ("sqlite3", "_sqlite3"),
    "unittest": ("unittest",),
    "urllib": ("urllib", "email"),
    "uuid": ("uuid", "_uuid"),
    "xml": ("xml", "xmlrpc", "pyexpat", "_elementtree"),
}
PACKAGE = {module: f"python3-{part}" for part, modules in SPLIT.items() for module in modules}
# Imports of pyroute2 0.5.16 of OpenWrt 22.03. From 23.05 on python3-pyroute2 pulls all of python3.
PYROUTE2_PARTS = {"distutils", "logging", "multiprocessing", "sqlite3", "ctypes"}
PYROUTE2_MODULES = {"email"}  # of python3-email, which python3-distutils pulls there


def declared() -> set[str]:
    """The parts that the package tandem depends on, without python3-light."""
    makefile = (FEED / "tandem/Makefile").read_text()
    (depends,) = re.findall(r"^define Package/tandem\n.*?^  DEPENDS:=(.*?[^\\])\n", makefile, re.S | re.M)
    return {part for part in re.findall(r"\+python3-(\w+)", depends) if part in SPLIT}


def absent(*, planner: bool = False) -> set[str]:
    """The modules that a router has no package of; `planner`: with what pyroute2 pulls on 22.03."""
    there = declared() | (PYROUTE2_PARTS if planner else set())
    modules = {module for part, modules in SPLIT.items() if part not in there for module in modules}
    return modules - (PYROUTE2_MODULES if planner else set())
