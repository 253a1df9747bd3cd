# SPDX-License-Identifier: GPL-2.0-or-later
"""tandemd, the program: its arguments, and what it does instead of running.

Exit status: 0 stopped as asked, 1 could not start, 2 usage or configuration, 4 ended by bugs (bugs.py);
with --check 3: `option enabled` is 0.
"""

from __future__ import annotations

import tandem.lean.resident  # noqa: F401  (before everything else)

# isort: split
import getopt
import os
import sys

from tandem import __version__
from tandem.control import DEFAULT_SOCKET
from tandem.log import LEVELS, Logger, StderrSink, SyslogSink
from tandem.programs import PACKAGE_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = """usage: tandemd -c FILE [--control SOCKET] [--ubus SOCKET] [--syslog] [--log-level LEVEL]

The Tandem daemon, in the foreground. FILE is the configuration in UCI syntax
(/etc/config/tandem). SIGHUP reloads it, SIGTERM hands over to the peer and ends.

  -c FILE            configuration, default /etc/config/tandem
  --control SOCKET   where `tandem` asks, default /var/run/tandem/control.sock
  --ubus SOCKET      where ubusd listens, default where it usually does; "" for no ubus
  --syslog           log to /dev/log instead of standard error
  --log-level LEVEL  error, warning, info or debug, instead of the configuration's
  --check            only look at FILE: status 0 usable, 2 not (it says why), 3 option enabled is 0
  --clear            take away what a tandemd has left that was killed, and end
  --version          print the version
"""
_OPTIONS = ("control=", "ubus=", "syslog", "log-level=", "check", "clear", "version", "help")


def main(argv: Sequence[str]) -> int:
    """The program: `argv` without its name; returns the exit status."""
    try:
        options, rest = getopt.getopt(list(argv), "c:h", list(_OPTIONS))
    except getopt.GetoptError as error:
        print(f"tandemd: {error}\n{USAGE}", end="", file=sys.stderr)
        return 2
    given = dict(options)
    level = given.get("--log-level")
    if "-h" in given or "--help" in given:
        print(USAGE, end="")
        return 0
    if "--version" in given:
        print(f"tandemd {__version__}")
        return 0
    if rest or (level is not None and level not in LEVELS):
        print(f"tandemd: unexpected {' '.join(rest) or level}\n{USAGE}", end="", file=sys.stderr)
        return 2
    config_file = os.path.abspath(given.get("-c", "/etc/config/tandem"))
    if "--check" in given:
        return _check(config_file)
    log = Logger(level or "info", SyslogSink() if "--syslog" in given else StderrSink())
    control = os.path.abspath(given.get("--control", DEFAULT_SOCKET))
    if "--clear" in given:
        from tandem.clear import clear

        return clear(PACKAGE_DIR, config_file, control, log)
    from tandem.daemon import Daemon

    return Daemon(config_file, control, log, level, given.get("--ubus")).run()


def _check(config_file: str) -> int:
    """Whether a daemon would run with `config_file`, for init scripts: an exit status, see USAGE.

    The planner does not run, because it takes as long as the start itself. A configuration that is valid and
    names existing users can be planned, where there is a usable pyroute2.
    """
    from tandem.config.load import load_file
    from tandem.plan.accounts import unknown_accounts
    from tandem.plan.requirement import ask

    loaded = load_file(config_file)
    problems = [str(problem) for problem in loaded.errors]
    if loaded.config is not None:
        problems += [f"{config_file}: {problem}" for problem in unknown_accounts(loaded.config)]
        if loaded.config.globals.enabled and (problem := ask(PACKAGE_DIR)):
            problems.append(problem)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems or loaded.config is None:
        return 2
    return 0 if loaded.config.globals.enabled else 3
