# SPDX-License-Identifier: GPL-2.0-or-later
"""ShellCheck finds nothing in any shell script, nor in what the packages run when they come and go."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging import packages
from tests.packaging.packages import REPOSITORY

pytestmark = pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck (TEST_PACKAGES)")


def scripts() -> list[Path]:
    """Tracked files that begin as a shell script does."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    found = []
    for name in done.stdout.splitlines():
        path = REPOSITORY / name
        if path.is_file() and path.suffix != ".py":
            first = path.open("rb").readline()
            if first.startswith(b"#!") and first.rstrip().endswith((b"sh", b"/etc/rc.common")):
                found.append(path)
    return found


def check(path: Path) -> None:
    # busybox's ash has `local`, which dash has and POSIX has not.
    bash = path.open().readline().rstrip().endswith("bash")
    done = subprocess.run(
        ["shellcheck", f"--shell={'bash' if bash else 'dash'}", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_scripts() -> None:
    names = {str(path.relative_to(REPOSITORY)) for path in scripts()}
    assert {"files/etc/init.d/tandem", "files/etc/uci-defaults/tandem", "tests/tools/debian-install"} <= names


@pytest.mark.parametrize("path", scripts(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_script(path: Path) -> None:
    check(path)


def test_scripts_of_the_packages(feed: Path, tmp_path: Path) -> None:
    checked = 0
    for package in feed.glob("*.ipk"):
        for name, (info, content) in packages.read(package).control.items():
            # postinst and prerm are OpenWrt's own text.
            if info.isfile() and content.startswith(b"#!") and name not in ("./postinst", "./prerm"):
                script = tmp_path / Path(name).name
                script.write_bytes(content)
                check(script)
                checked += 1
    assert checked >= 3
