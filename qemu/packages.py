# SPDX-License-Identifier: GPL-2.0-or-later
"""Our own packages, as `make ipk` builds them from this checkout."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def built(python: str, sources: str = "tandem") -> Path:
    """A directory with the packages, and their index, for a router with that Python ("3.11").

    Each process has its own, and removes it at its end: another may run at the same time.
    """
    directory = Path(tempfile.mkdtemp(prefix="tandem-ipk-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    argv = ["make", "ipk", f"IPK_DIR={directory}", f"PACKAGE_SOURCES={sources}", f"PYTHON3_VERSION={python}"]
    done = subprocess.run(argv, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr or done.stdout}")
    return directory
