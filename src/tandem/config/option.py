# SPDX-License-Identifier: GPL-2.0-or-later
"""The row of the option table: everything that Tandem knows about one option.

The parser, the effective configuration, what a reload keeps, docs/options.md and `tandem options` all work
from these rows. A new option is a row in `options`, and a field of the settings where the option is used.
The resident daemon imports none of this: the planner sends it the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from tandem.config.problem import MASK
from tandem.config.values import SWITCH, Kind

FIRST = "0.1"
NEXT = "unreleased"  # `make release` writes the number of the release into the rows

# The consequence of a changed value for a daemon that reloads.
KEEPS = "roles and sessions stay"
ROLE = "the instance is another virtual router: its role begins anew"
SESSION = "sessions with peers begin anew; roles stay"
START = "the next start uses it"


@dataclass(frozen=True, slots=True)
class Option:
    """An option that Tandem understands.

    `default` is UCI text and is read like a value; None: not set, or derived as `help` says. `field` names
    the attribute of the section's settings that holds the value; "garp.repeat" is an attribute of a part of
    them. `shown` makes the value of the effective configuration from the settings where the field is not
    enough; it masks a secret itself.
    """

    kind: Kind
    default: str | None
    help: str
    field: str | None = None
    shown: Callable[[Any], Any] | None = None
    many: bool = False  # a list
    required: bool = False
    secret: bool = False  # nothing ever prints its value
    reload: str = KEEPS
    since: str = FIRST

    def texts(self, settings: Any) -> Iterator[str]:
        """Yield the option's values in the effective configuration, as UCI text; none for an unset one."""
        if self.shown is None and self.field is None:
            return
        value = self.shown(settings) if self.shown else attrgetter(self.field or "")(settings)
        for one in value if self.many else (value,):
            if one not in (None, "", b"", ()):
                yield MASK if self.secret and not self.shown else self.kind.write(one)


@dataclass(frozen=True, slots=True)
class Refused:
    """An option that keepalived knows and Tandem can't honour; switched off, it is accepted."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoEffect:
    """An option that Tandem accepts with a warning, because nothing is left for it to do."""

    reason: str


Entry = Option | Refused | NoEffect
Table = dict[str, Entry]


def switch(
    default: str | None, text: str, field: str | None = None, shown: Callable[[Any], Any] | None = None
) -> Option:
    """The row of an option that is on or off."""
    return Option(SWITCH, default, text, field, shown)
