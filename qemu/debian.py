# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages of any architecture, with apt's signature checks and without touching the machine's dpkg.

apt gets a state of its own in the cache, in which nothing is installed: so it names all that a set of
packages needs. The release is pinned, so that a guest is the same whatever the host runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import cache
from .architectures import ARCHITECTURES

RELEASE = "bookworm"  # Python 3.11 as OpenWrt 24.10 has it, Linux 6.1
MIRROR = os.environ.get("TANDEM_DEBIAN_MIRROR", "http://deb.debian.org")

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LISTS_AGE = 24 * 3600  # s after which the package lists are read again


class DebianError(RuntimeError):
    """apt or dpkg failed; its messages are in the text."""


class UnreachableError(DebianError):
    """There is no network, and nothing in the cache."""


class Debian:
    """The packages of one architecture, a name in ARCHITECTURES."""

    def __init__(self, architecture: str) -> None:
        self.name = ARCHITECTURES[architecture].debian
        self._directory = cache.ROOT / f"apt-{RELEASE}-{self.name}"
        self._options = {
            "Dir::State": self._directory / "state",
            "Dir::State::status": self._directory / "status",
            "Dir::Cache": self._directory / "cache",
            "Dir::Etc::sourcelist": self._directory / "sources.list",
            "Dir::Etc::sourceparts": "/nonexistent",
            "APT::Architecture": self.name,
            "APT::Architectures": self.name,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }

    def closure(self, packages: Iterable[str], without: Iterable[str] = ()) -> dict[str, str]:
        """The packages and all they depend on, each with the name of its file, less those `without`."""
        self._update()
        found = self._files("install", *packages)
        return {name: file for name, file in found.items() if name not in set(without)}

    def kernel(self, package: str) -> str:
        """The package that a kernel's meta-package, such as "linux-image-cloud-amd64", stands for."""
        self._update()
        text = self._run("apt-cache", "show", "--no-all-versions", package)
        found = re.search(r"^Depends: (linux-image-\S+)", text, re.MULTILINE)
        if not found:
            raise DebianError(f"{package} names no kernel:\n{text}")
        return found[1]

    def only(self, package: str) -> dict[str, str]:
        """Return the file of one package, without its dependencies."""
        self._update()
        return self._files("download", package)

    def unpack(self, packages: dict[str, str], root: Path) -> None:
        """Put the packages' files under `root`; nothing of theirs is run."""
        archives = self._directory / "archives"
        archives.mkdir(exist_ok=True)
        for name, file in packages.items():
            if not (archives / file).exists():
                self._run("apt-get", "-qq", "download", name, where=archives)
            _command(["dpkg-deb", "-x", str(archives / file), str(root)])

    def _update(self) -> None:
        with cache.lock(self._directory.name):
            stamp = self._directory / "updated"
            if stamp.exists() and time.time() - stamp.stat().st_mtime < _LISTS_AGE:
                return
            for name in ("state/lists/partial", "cache/archives/partial"):
                (self._directory / name).mkdir(parents=True, exist_ok=True)
            (self._directory / "status").touch()
            suites = [("debian", RELEASE), ("debian", f"{RELEASE}-updates")]
            suites.append(("debian-security", f"{RELEASE}-security"))
            lines = [f"deb [signed-by={_KEYRING}] {MIRROR}/{place} {suite} main" for place, suite in suites]
            (self._directory / "sources.list").write_text("\n".join([*lines, ""]))
            try:
                self._run("apt-get", "-qq", "update")
            except DebianError as error:
                # The lists of yesterday do, and a mirror in the middle of its synchronisation may lack one.
                pattern = f"state/lists/*_{RELEASE}_main_binary-{self.name}_Packages*"
                if not any(self._directory.glob(pattern)):
                    raise UnreachableError(str(error)) from None
                print(f"package lists of {self.name} may be old: {error}", file=sys.stderr)
            stamp.touch()

    def _files(self, *words: str) -> dict[str, str]:
        text = self._run("apt-get", "-qq", "--print-uris", "-y", *words)
        # 'http://.../pool/main/n/name_1.2-3_amd64.deb' name_1.2-3_amd64.deb 1234 SHA256:...
        return {name: file for file, name in re.findall(r"^'\S+' (([^_\s]+)_\S+)", text, re.MULTILINE)}

    def _run(self, program: str, *words: str, where: Path | None = None) -> str:
        options = [item for key, value in self._options.items() for item in ("-o", f"{key}={value}")]
        return _command([program, *options, *words], where)


def _command(argv: Sequence[str], where: Path | None = None) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, cwd=where)
    if done.returncode:
        raise DebianError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr or done.stdout}")
    return done.stdout
