# SPDX-License-Identifier: GPL-2.0-or-later
"""Stands in for opkg and apk on a router of the lab: it exchanges Tandem's files, as a package does.

The router has its files in a directory of its own. The program finds its settings beside itself: "version" of
the new files, "source": where these are, "tree": the router's files, "control": the daemon's socket, "start":
the command that starts the daemon, "log": its output. While a file with the end "broken" is there, it fails.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def ask(control: str, command: str) -> Any:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(control)
        sock.sendall(json.dumps({"command": command}).encode() + b"\n")
        return json.loads(sock.makefile().readline())["result"]


def main() -> int:
    own = Path(sys.argv[0]).resolve()
    name = Path(sys.argv[0]).name
    given = json.loads(Path(f"{own}.json").read_text())
    tree, source = Path(given["tree"]), Path(given["source"])
    init = tree / "src/tandem/__init__.py"
    found = re.search(r'__version__ = "(.*)"', init.read_text())
    assert found
    before, after = found[1], given["version"]
    verb = sys.argv[1]
    if verb == "update":
        return 0
    if verb in ("list", "list-upgradable"):
        if before != after and name == "apk":
            print(f"tandem-{after} noarch {{tandem}} (GPL-2.0-or-later) [upgradable from: tandem-{before}]")
        elif before != after:
            print(f"tandem - {before} - {after}")
        return 0
    assert sys.argv[1:] == ["upgrade", "tandem"], sys.argv
    if Path(f"{own}.broken").exists():
        print("no space left on device")
        return 1
    # As prerm does: the daemon hands over, and is gone before its files are.
    os.kill(ask(given["control"], "status")["pid"], signal.SIGTERM)
    while os.path.exists(given["control"]):
        time.sleep(0.05)
    shutil.rmtree(tree / "src/tandem")
    shutil.copytree(source / "src/tandem", tree / "src/tandem", ignore=shutil.ignore_patterns("__pycache__"))
    init.write_text(init.read_text().replace(re.findall(r'__version__ = "(.*)"', init.read_text())[0], after))
    with open(given["log"], "ab") as log:
        subprocess.Popen(
            given["start"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
