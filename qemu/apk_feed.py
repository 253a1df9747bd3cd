# SPDX-License-Identifier: GPL-2.0-or-later
"""A feed for a router with apk, from the .ipk of one for opkg. Nothing is signed."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKER = Path(__file__).resolve().parents[1] / "openwrt-feed/standalone/apk.py"
INDEX = "packages.adb"
# The packer's environment variables, and their place in an .ipk.
PARTS = {
    "IPK_CONFFILES": "conffiles",
    "IPK_PREINST": "preinst",
    "IPK_POSTINST": "postinst-pkg",
    "IPK_PRERM": "prerm-pkg",
    "IPK_POSTRM": "postrm",
}


def apk_feed(ipks: Path, output: Path) -> None:
    """Pack every package of a directory once more, and index them."""
    output.mkdir(parents=True, exist_ok=True)
    for ipk in sorted(ipks.glob("*.ipk")):
        _convert(ipk, output)
    _pack(["index", str(output)], {})


def _convert(ipk: Path, output: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        control, data = Path(directory, "control"), Path(directory, "data")
        with tarfile.open(ipk) as outer:
            for part, place in (("control", control), ("data", data)):
                member = outer.extractfile(f"./{part}.tar.gz")
                assert member
                with tarfile.open(fileobj=member) as inner:
                    inner.extractall(place, filter="tar")
        fields, _, description = (control / "control").read_text().partition("Description:")
        variables = {
            # The root file systems of the tests have a C library, but no package of it.
            "IPK_CONTROL": fields.replace("libc, ", "").replace("Depends: libc\n", ""),
            "IPK_DESCRIPTION": description,
            "SOURCE_DATE_EPOCH": str(int((control / "control").stat().st_mtime)),
        }
        variables |= {
            name: (control / file).read_text() for name, file in PARTS.items() if (control / file).exists()
        }
        _pack(["pack", str(data), str(output)], variables)


def _pack(arguments: list[str], variables: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("FEED_KEYS", *PARTS)}
    subprocess.run(
        [sys.executable, PACKER, *arguments],
        env=environment | variables,
        check=True,
        stdout=subprocess.DEVNULL,
    )
