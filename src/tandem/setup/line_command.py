# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem follow apply` and `tandem follow release`: OpenWrt's own configuration for a line that is shared.

`tandem init` applies it after it has asked. The package's removal releases it, so that the router's way out
works without Tandem.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from tandem.config.load import load_file
from tandem.config.schema import Follow
from tandem.console import DONE, FAILED, complain, print_lines
from tandem.files import write_private
from tandem.programs import PATH
from tandem.setup import line

SERVICES = (("network", "/etc/init.d/network"), ("firewall", "/etc/init.d/firewall"))


def run(arguments: argparse.Namespace) -> int:
    """Apply or release, and return the exit status."""
    config = load_file(arguments.config).config
    follows = config.follows if config is not None else ()
    if config is None and arguments.what == "apply":
        complain([f"{arguments.config} has errors, see: tandem check"])
        return FAILED
    files = {"network": arguments.network_config, "firewall": arguments.firewall_config}
    try:
        changed = change(follows, files, arguments.what == "release")
    except OSError as error:
        complain([f"{error.filename}: {error.strerror}"])
        return FAILED
    print_lines(sys.stdout, [f"{files[name]} is changed." for name in changed] or ["nothing to change"])
    reload(changed)
    return DONE


def change(follows: tuple[Follow, ...], files: dict[str, str], back: bool, hostname: str = "") -> list[str]:
    """Change the files "network" and "firewall", by their paths; return the names of those that changed."""
    changed = []
    devices: dict[str, str] = {}
    for name, path in files.items():
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                before = file.read()
        except FileNotFoundError:
            continue
        if name == "network":
            after = line.network(before, follows, back, hostname)
            devices = line.zone_devices(before, follows)
        else:
            after = line.firewall(before, devices, back)
        if after != before:
            mode = os.stat(path).st_mode & 0o777
            write_private(path, after)
            os.chmod(path, mode)
            changed.append(name)
    return changed


def reload(changed: list[str]) -> None:
    """Let OpenWrt's services read the files that have changed, where there are such services."""
    for name, script in SERVICES:
        if name in changed and os.path.exists(script):
            # What they print is for people, and not for the caller of rpcd's plugin.
            null, out = subprocess.DEVNULL, sys.stderr
            subprocess.run([script, "reload"], env={"PATH": PATH}, stdin=null, stdout=out, check=False)
