# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of services, and of `config check`: they can start, and none has failed. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tandem.doctor.facts import RouterFacts
from tandem.doctor.finding import Finding


def missing(router: RouterFacts) -> Iterator[Finding]:
    """The program that starts each service is there."""
    for one in router.services:
        if one.missing:
            what = f"service {one.name} cannot start here: there is no {one.missing}"
            yield Finding("service", what, "install the package that has it, as on the other router")


def boot(router: RouterFacts) -> Iterator[Finding]:
    """No service starts when the router boots, before the role is known."""
    for one in router.services:
        if one.disable:
            what = f"service {one.name} also starts by itself when this router boots: it may run twice"
            yield Finding("service", what, one.disable)


def blind(router: RouterFacts) -> Iterator[Finding]:
    """Something tells whether each service runs."""
    for one in router.services:
        if one.blind:
            what = f"nobody sees whether service {one.name} runs: its init script does not use procd"
            advice = "give the service a list check, such as one of kind process"
            yield Finding("service", what, advice)


def failed(router: RouterFacts) -> Iterator[Finding]:
    """No service has failed."""
    for one in router.services:
        if one.blocked:
            what = f"service {one.name} could not be stopped, and is started nowhere: {one.failure}"
            advice = f"see to it that it has ended here, then: tandem service clear {one.name}"
            yield Finding("service", what, advice)
        elif one.failure:
            advice = f"mend the cause, then: tandem service clear {one.name}"
            yield Finding("service", f"service {one.name} has failed: {one.failure}", advice)


def unreached(router: RouterFacts) -> Iterator[Finding]:
    """Every check could be good: its program is there, and some try has reached its target."""
    for one in router.checks:
        if one.missing:
            what = f"check {one.name} is always down: there is no {one.missing}"
            yield Finding("check", what, "correct option script of the check, or install the program")
        elif one.never:
            what = f"check {one.name} ({one.what}) was never up since its start: {one.never}"
            advice = "correct the check, or mend its target; tandem checks shows each result"
            yield Finding("check", what, advice)


ROUTER = (missing, boot, blind, failed, unreached)
