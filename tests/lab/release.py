# SPDX-License-Identifier: GPL-2.0-or-later
"""An earlier release of Tandem, from git."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from .router import ROOT

OLD = "edc6352"  # before the channel had `config peer`


def unpack(directory: Path) -> Path | None:
    """Unpack the earlier release; None: the history of this checkout lacks it (a shallow clone)."""
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "cat-file", "-e", OLD], capture_output=True).returncode:
        return None
    archive = [*git, "archive", OLD, "src/tandem", "files/usr/sbin"]
    data = subprocess.run(archive, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(directory)
    return directory
