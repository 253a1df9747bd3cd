# SPDX-License-Identifier: GPL-2.0-or-later
"""Our packages for a router with apk, from the .ipk of `make ipk`, as OpenWrt's package-pack.mk calls apk.

It takes an apk of this machine, apk-tools 3 with `mkpkg`: TANDEM_APK, or the one in PATH. Nothing is signed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

INDEX = "packages.adb"

_FUNCTIONS = """#!/bin/sh
{first}[ -s ${{IPKG_INSTROOT}}/lib/functions.sh ] || exit 0
. ${{IPKG_INSTROOT}}/lib/functions.sh
export root="${{IPKG_INSTROOT}}"
export pkgname="{name}"
"""
_UPGRADE = "#!/bin/sh\nexport PKG_UPGRADE=1\n"


class ApkError(RuntimeError):
    """There is no apk, or it does not take what it is given."""


def apk_feed(ipks: Path, output: Path) -> None:
    """Convert every package of a directory, and index them. ApkError: not on this machine."""
    apk = os.environ.get("TANDEM_APK") or shutil.which("apk")
    if not apk:
        raise ApkError("no apk-tools 3 here, which make packages for a router with apk (TANDEM_APK)")
    output.mkdir(parents=True, exist_ok=True)
    made = [_convert(apk, path, output) for path in sorted(ipks.glob("*.ipk"))]
    _run([apk, "mkndx", "--allow-untrusted", "--output", str(output / INDEX), *map(str, made)])


def _convert(apk: str, ipk: Path, output: Path) -> Path:
    with tempfile.TemporaryDirectory() as directory:
        control, data = Path(directory, "control"), Path(directory, "data")
        with tarfile.open(ipk) as outer:
            for part, place in (("control", control), ("data", data)):
                member = outer.extractfile(f"./{part}.tar.gz")
                assert member
                with tarfile.open(fileobj=member) as inner:
                    inner.extractall(place, filter="tar")
        fields = dict(
            line.split(": ", 1) for line in (control / "control").read_text().splitlines() if ": " in line
        )
        name, version = fields["Package"], fields["Version"]
        kept = data / "lib/apk/packages"
        kept.mkdir(parents=True)
        if (control / "conffiles").exists():
            shutil.copy(control / "conffiles", kept / f"{name}.conffiles")
        files = sorted(f"/{path.relative_to(data)}\n" for path in data.rglob("*") if not path.is_dir())
        (kept / f"{name}.list").write_text("".join(files))
        depends = [
            item.split()[0] for item in fields.get("Depends", "").split(", ") if item and item != "libc"
        ]
        target = output / f"{name}-{version}.apk"
        argv = [
            apk,
            "mkpkg",
            "--info",
            f"name:{name}",
            "--info",
            f"version:{version}",
            "--info",
            "arch:noarch",
        ]
        argv += [
            "--info",
            f"description:{fields.get('Description', name)}",
            "--info",
            f"depends:{' '.join(depends)}",
        ]
        for script in _scripts(name, control):
            argv += ["--script", f"{script.name}:{script}"]
        _run([*argv, "--files", str(data), "--output", str(target)])
        return target


def _scripts(name: str, control: Path) -> Iterator[Path]:
    """Each under the name that apk has for it."""

    def body(file: str) -> str:
        path = control / file
        return path.read_text() if path.exists() else ""

    skip = '[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0\n'
    install = (
        _FUNCTIONS.format(name=name, first=skip)
        + "add_group_and_user\ndefault_postinst\n"
        + body("postinst-pkg")
    )
    texts = {
        "post-install": install,
        "post-upgrade": _UPGRADE + install,
        "pre-deinstall": _FUNCTIONS.format(name=name, first="") + "default_prerm\n" + body("prerm-pkg"),
        "post-deinstall": body("postrm"),
    }
    for script, text in texts.items():
        if text:
            path = control / script
            path.write_text(text)
            path.chmod(0o755)
            yield path


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise ApkError(f"{' '.join(argv[:2])}: {done.stderr or done.stdout}")
