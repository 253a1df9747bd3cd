# SPDX-License-Identifier: GPL-2.0-or-later
"""`make generated`, or `make diagrams`: write the files that are made from the tables in the code.

A test (tests/unit/test_generated.py) compares the committed files with what this makes.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.tools import command_files, luci_files, machines, option_files, status_files

ROOT = Path(__file__).parents[2]


def texts() -> dict[str, str]:
    """Every file that is made, with its text; paths are relative to the checkout."""
    makers = (command_files, status_files, option_files, machines, luci_files)
    return {name: text for maker in makers for name, text in maker.texts().items()}


def links() -> dict[str, str]:
    """Every symbolic link that is made, with its target."""
    return command_files.links()


def main() -> None:
    """Write them all."""
    for name, text in texts().items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text, encoding="utf-8")
    for name, target in links().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.symlink(target, path)


if __name__ == "__main__":
    main()
