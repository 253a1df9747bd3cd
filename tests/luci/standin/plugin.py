# SPDX-License-Identifier: GPL-2.0-or-later
"""rpcd's plugin on a router of the lab, with the arguments on the standard input.

python -m tests.luci.standin.plugin DIRECTORY METHOD
"""

from __future__ import annotations

import sys
from pathlib import Path

from tandem.rpcd import methods, plugin, setup
from tandem.rpcd.request import Files
from tandem.setup import service

from .server import UQR


def main(directory: Path, method: str) -> int:
    setup.UQR = str(UQR)
    service.INIT_SCRIPT = str(directory / "init")
    methods.PATH = f"{directory}/bin:{methods.PATH}"
    names = {"config": "tandem", "control": "control.sock", "state": "state", "secret": "secret"}
    files = {field: str(directory / name) for field, name in names.items()}
    for name in ("network", "dhcp"):
        files[name] = str(directory / name)
    return plugin.main(method, Files(**files))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
