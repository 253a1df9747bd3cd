# SPDX-License-Identifier: GPL-2.0-or-later
"""The entries of `command_table` about services and checks."""

from __future__ import annotations

from tandem.control.command import JSON, OPERATE, SEE, Command, arg

SERVICE_COMMANDS = (
    Command(
        "services",
        "show what runs where",
        """\
The services of this router (config service): the state of each one, since when,
what it waits for, and its failures with the reason that the agent gave.""",
        """\
  tandem services
  tandem services --json             for scripts""",
        (JSON,),
        run="tandem.control.services_page:services",
        request=(),
        access=SEE,
    ),
    Command(
        "checks",
        "show what is checked, and the results",
        """\
The checks of this router (config check) that are made now: those that a group
tracks, those of the services that run here, and those of real servers. Before
them the virtual servers, with the share of each real server.""",
        """\
  tandem checks
  tandem checks --json               for scripts""",
        (JSON,),
        run="tandem.control.checks_page:checks",
        request=(),
        access=SEE,
    ),
    Command(
        "service",
        "move, clear, start, stop or try a service",
        """\
move: hand the role of its group over, and with it all that follows the role.
clear: its failures are over; if it could not be stopped, here or on a router
that is gone, it does not run there any more. Look first.
stop: on this router until `start`, or until the daemon ends.
trial: start the agent of a running service twice, stop it twice and start it
again. It must not fail at what is done already; the service is down meanwhile.""",
        """\
  tandem service move nginx
  tandem service clear nginx
  tandem service stop nginx
  tandem service trial nginx""",
        (
            arg("action", choices=("move", "clear", "start", "stop", "trial"), help="what to do"),
            arg("name", metavar="NAME", help="the service"),
        ),
        run="tandem.control.services_page:service",
        request=("action", "name", "by"),
        access=OPERATE,
    ),
)
