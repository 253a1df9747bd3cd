# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be wrong with one router: each check takes its facts and yields findings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tandem.doctor.facts import RouterFacts
from tandem.doctor.finding import Finding

Check = Callable[[RouterFacts], Iterator[Finding]]


def daemon(router: RouterFacts) -> Iterator[Finding]:
    """It runs."""
    if not router.daemon:
        yield Finding(
            "daemon", router.daemon_error or "tandemd does not run", "start it: /etc/init.d/tandem restart"
        )


def configuration(router: RouterFacts) -> Iterator[Finding]:
    """The file can be used."""
    for error in router.config_errors:
        mend = f"mend {router.config_file}, then: tandem check && tandem reload"
        yield Finding("configuration", error, mend)


def faults(router: RouterFacts) -> Iterator[Finding]:
    """No instance is in FAULT."""
    for instance in router.instances:
        if instance.faults:
            yield Finding(
                "fault",
                f"{instance.name} can't take its addresses: {', '.join(instance.faults)}",
                "see to what is named; tandem status shows when it is over",
            )


def addresses(router: RouterFacts) -> Iterator[Finding]:
    """Who is active has the virtual addresses, and nobody else."""
    for instance in router.instances:
        for address, place in zip(instance.addresses, instance.places, strict=False):
            there = address.partition("/")[0] in router.device(place).addresses
            if instance.state == "MASTER" and not there:
                yield Finding(
                    "addresses",
                    f"{instance.name} is MASTER, but {address} is not on {place}",
                    "something has removed it: look for what else sets addresses there;"
                    " tandem failover gives it to the other router meanwhile",
                )
            elif instance.state == "BACKUP" and there and instance.priority != 255:
                yield Finding(
                    "addresses",
                    f"{instance.name} is BACKUP, but {address} is on {place}",
                    f"remove it from the router's own configuration of {place} (/etc/config/network)",
                )


CHECKS: tuple[Check, ...] = (daemon, configuration, faults, addresses)


def examine(router: RouterFacts) -> list[Finding]:
    """Everything that is wrong with a router."""
    return [replace(finding, router=router.name) for check in CHECKS for finding in check(router)]
