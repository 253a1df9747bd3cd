# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands and their arguments: the types of the entries in `command_table`, and what several share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tandem.control import DEFAULT_SOCKET
from tandem.places import CONFIG, FIREWALL, NETWORK


def seconds(text: str) -> float:
    """Return an interval for people, in seconds."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.1 <= found <= 3600:
        raise argparse.ArgumentTypeError("give 0.1 to 3600 seconds")
    return found


def positive(text: str) -> int:
    """Return a number that is at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("give a number of at least 1")
    return int(text)


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument on the command line: its names, and argparse's keywords."""

    names: tuple[str, ...]
    keywords: Mapping[str, Any]
    completes: str  # how a shell completes the value: "files", "group", "interface", or "" (not at all)
    excludes: str  # only one argument of those with the same word here may be given

    @property
    def is_option(self) -> bool:
        """Whether the argument is an option: it begins with a dash and may stand anywhere."""
        return self.names[0].startswith("-")

    @property
    def has_value(self) -> bool:
        """Whether a value follows the option, or may follow."""
        return self.keywords.get("action") in (None, "append")

    @property
    def is_hidden(self) -> bool:
        """Whether the argument is for Tandem itself."""
        return self.keywords.get("help") == argparse.SUPPRESS


def arg(*names: str, completes: str = "", excludes: str = "", **keywords: Any) -> Argument:
    """Make an argument, as argparse.add_argument."""
    return Argument(names, keywords, completes, excludes)


def switch(name: str, text: str, **keywords: Any) -> Argument:
    """Make an option without a value."""
    return arg(name, action="store_true", help=text, **keywords)


@dataclass(frozen=True, slots=True)
class Access:
    """An ACL group of rpcd: a user with this group may call the methods that name it."""

    group: str
    description: str
    kind: str  # "read" or "write"
    uci: tuple[str, ...] = ()  # rights to the configuration


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `tandem`, a request to the daemon, or both.

    `name` has a space when the command stands below another one; the request has "_" there. A request
    without a `summary` is for Tandem itself and no command. `summary`, `details` and `examples` are the help;
    lines have at most 80 columns. Without `access`, the request is no method on ubus. With `plugin`, rpcd
    answers on ubus, in the object `tandem.commands`, also where no daemon runs. `package` is the package of
    OpenWrt that brings what the command imports, where `tandem` does not.
    """

    name: str
    summary: str = ""
    details: str = ""
    examples: str = ""
    arguments: tuple[Argument, ...] = ()
    run: str = ""  # "module:function", which gets argparse's namespace and returns the exit status
    request: tuple[str, ...] | None = None  # the request's arguments; None: the daemon has no such request
    access: Access | None = None
    plugin: Mapping[str, object] | None = None  # the arguments of rpcd's method, with examples of their types
    package: str = ""

    @property
    def method(self) -> str:
        """The name of the request, and of the method on ubus."""
        return self.name.replace(" ", "_")


# What several commands have in common

SEE = Access("tandem-status", "See the state of Tandem's virtual routers", "read")
OPERATE = Access("tandem-operate", "Hand Tandem's role over, take a router out of service and back", "write")
CONFIGURE = Access(
    "tandem-configure",
    "Configure Tandem: can run commands as root and read its secrets",
    "write",
    uci=("read", "write"),
)

CONTROL = arg(
    "--control",
    metavar="SOCKET",
    help=f"control socket of the daemon (default: {DEFAULT_SOCKET})",
    completes="files",
)
JSON = switch("--json", "print JSON")
RUNNING_CONFIG = arg(
    "-c", "--config", metavar="FILE", help="configuration (default: the running daemon's)", completes="files"
)
CONFIG_FILE = arg(
    "-c",
    "--config",
    metavar="FILE",
    default=CONFIG,
    help=f"configuration (default: {CONFIG})",
    completes="files",
)
NETWORK_CONFIG = arg(
    "--network-config", default=NETWORK, metavar="FILE", help=f"default: {NETWORK}", completes="files"
)
FIREWALL_CONFIG = arg(
    "--firewall-config", default=FIREWALL, metavar="FILE", help=f"default: {FIREWALL}", completes="files"
)
