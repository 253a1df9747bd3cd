# SPDX-License-Identifier: GPL-2.0-or-later
"""`make release`: one version for everything, in a clone of this checkout."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import tandem
from tests.packaging import packages


def run(directory: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=directory, capture_output=True, text=True, timeout=60)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the files of this one, as they are now."""
    files = run(packages.REPOSITORY, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    directory = tmp_path / "clone"
    for name in filter(None, files.stdout.split("\0")):
        source, target = packages.REPOSITORY / name, directory / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)
    for argv in (
        ("init", "-q", "-b", "main"),
        ("config", "user.name", "Tester"),
        ("config", "user.email", "tester@example.org"),
        ("add", "-A"),
        ("commit", "-q", "-m", "everything"),
    ):
        assert run(directory, "git", *argv).returncode == 0
    return directory


def release(clone: Path, version: str) -> subprocess.CompletedProcess[str]:
    return run(clone, "make", "--no-print-directory", "release", f"VERSION={version}")


def test_a_release_has_one_version(clone: Path, tmp_path: Path) -> None:
    done = release(clone, "7.8.9")
    assert done.returncode == 0, done.stderr
    assert run(clone, "git", "describe").stdout == "v7.8.9\n"
    assert not run(clone, "git", "status", "--porcelain").stdout
    assert re.search(
        r"^## Unreleased\n\n## 7\.8\.9 \(\d{4}-\d\d-\d\d\)\n", (clone / "CHANGELOG.md").read_text(), re.M
    )
    assert "Since: 7.8." in (clone / "docs/options.md").read_text()
    assert 'since="7.8"' in (clone / "src/tandem/config/options/instance.py").read_text()
    packages.make_ipk(tmp_path / "ipk", repository=clone)
    assert (tmp_path / "ipk/tandem_7.8.9-r1_all.ipk").exists()
    argv = (str(packages.venv() / "bin/python"), "-c", "import tandem; print(tandem.__version__)")
    assert run(clone / "src", *argv).stdout == "7.8.9\n"
    assert release(clone, "7.8.9").returncode != 0  # it exists, and nothing is new
    assert run(clone, "git", "rev-list", "--count", "HEAD").stdout == "2\n"


@pytest.mark.parametrize("version", ["", "1.2", "1.2.3; true", "v1.2.3"])
def test_a_version_is_three_numbers(clone: Path, version: str) -> None:
    done = release(clone, version)
    assert done.returncode != 0 and "three numbers" in done.stderr
    assert run(clone, "git", "tag").stdout == ""


def test_changes_that_are_not_committed_are_no_release(clone: Path) -> None:
    (clone / "README.md").write_text("changed")
    done = release(clone, "7.8.9")
    assert done.returncode != 0 and "commit or stash" in done.stderr


def test_the_version_is_written_once() -> None:
    files = run(
        packages.REPOSITORY, "git", "ls-files", "src/*.toml", "src/*.py", "openwrt-feed/*", "files/*"
    ).stdout
    found = [
        name
        for name in files.split()
        if f'"{tandem.__version__}"' in (packages.REPOSITORY / name).read_text()
    ]
    assert found == ["src/tandem/__init__.py"]
