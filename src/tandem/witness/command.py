# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem witness`: reads the configuration, and becomes the small process that gives its vote."""

from __future__ import annotations

import argparse
import os
import sys

from tandem.console import DONE, UNUSABLE, complain
from tandem.programs import PATH

PACKAGE_DIR = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from tandem.witness.server import main; main(sys.argv[2:])"
)


def run(arguments: argparse.Namespace) -> int:
    """Replace this process, whose parser needs more memory than the witness; return why it can't."""
    from tandem.config.load import load_file

    loaded = load_file(arguments.config)
    for problem in (*loaded.errors, *loaded.warnings):
        print(problem, file=sys.stderr)
    if loaded.config is None:
        return UNUSABLE
    server = loaded.config.witness_server
    if server is None or not server.enabled:
        complain([f"{arguments.config} has no section witness_server that is enabled"])
        return DONE
    options = [server.address, str(server.port), str(server.lease_ms), *server.secret_files]
    sys.stdout.flush()
    argv = [sys.executable, "-ISB", "-c", PROGRAM, PACKAGE_DIR, *options]
    return os.execve(sys.executable, argv, {"PATH": PATH})
