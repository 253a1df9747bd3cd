# SPDX-License-Identifier: GPL-2.0-or-later
"""From a fault to the service that answers again, part by part: nginx, which follows the role of a pair.

Its own start is measured alone, on the same machine in the same run. What is left of the outage without the
detection and that start is the cost of Tandem: it is to be at most 50 ms. A service is started 250 ms later
than the role moves, in which a guardian ends a daemon that only hangs. That is a part of the detection.
"""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from tests.examples.nginx import Client, page_of
from tests.lab import LanLab, Router, Tandem, process, wait_until
from tests.netns.daemon import VIP
from tests.netns.test_services import NGINX, WEB, Served

Figures = dict[str, float]
STARTS = 5
PAUSE, TIMEOUT = 0.001, 0.02  # s, of two questions, and of one
SETTLED = 2.0  # s: there is a pause of a second between two starts


def service_outage(kind: str) -> Figures:
    """A router loses its power; nginx is killed."""
    if kind != "tandemd":
        return {}
    daemons = [Served(WEB, priority, number) for number, priority in ((1, 150), (2, 100))]
    for daemon in daemons:
        daemon.instances = (replace(daemon.instances[0], advert_s=1.0),)
    found: Figures = {}
    with LanLab(daemons, "outage") as lab:
        lab.up()
        lab.elect()
        r1, r2 = lab.routers
        client = Client(lab, VIP, PAUSE, TIMEOUT)
        try:
            alone = _alone(r2)
            found["nginx alone, from exec to its first page, ms"] = alone
            wait_until(lambda: known(r1) and bool(client.pages), 20, "they know each other", explain=lab.logs)
            time.sleep(SETTLED)
            found |= _fault("nginx is killed", client, r1, alone, lambda: _kill(r1))
            found |= _fault("power loss", client, r2, alone, r1.power_off)
        finally:
            client.close()
    return found


def _fault(what: str, client: Client, router: Router, alone: float, action: Callable[[], None]) -> Figures:
    """Make the fault, and return the parts of the outage; `router` has the service afterwards."""
    began, clock = time.time(), time.time() - time.monotonic()  # the history has times of day
    action()
    [started] = wait_until(lambda: _times(router, began, "service", "running"), 10, "it is started")
    answered = clock + _first(client, started - clock)  # nobody answers between the fault and the start
    figures = {"from the fault to the page": answered - began, "of that until its start": started - began}
    if roles := _times(router, began, "instance", "MASTER"):
        figures["of that until the role"] = roles[0] - began
    found = {f"{what}: {name}, ms": 1000 * seconds for name, seconds in figures.items()}
    return found | {f"{what}: the rest, ms": 1000 * (answered - started) - alone}


def _first(client: Client, since: float) -> float:
    """Wait for a page after that time, and return its time."""
    return wait_until(lambda: next((when for when, _ in list(client.pages) if when > since), 0), 30, "a page")


def _times(router: Router, since: float, kind: str, state: str) -> list[float]:
    """The times of day of a kind's changes to a state."""
    history = Tandem.request(router, "status")["history"]
    return [
        entry["time"] for entry in history
        if entry["kind"] == kind and entry["state"] == state and entry["time"] > since
    ]  # fmt: skip


def known(router: Router) -> bool:
    """Whether the router hears the heartbeats of its peer."""
    return all(one["heartbeats"]["state"] == "alive" for one in Tandem.request(router, "status")["peers"])


def _kill(router: Router) -> None:
    process.send_signal([int(router.file("run.pid").read_text())], signal.SIGKILL)


def _alone(router: Router) -> float:
    """Start nginx by hand at another address; the median of some starts, ms."""
    config = router.file("alone")
    text = NGINX.format(run=router.file("alone.run"), vip="127.0.0.1", name="alone")
    config.write_text(text)
    taken = []
    for _ in range(STARTS):
        began = time.monotonic()
        child = router.popen("/usr/sbin/nginx", "-c", str(config))
        try:
            wait_until(
                lambda: router.enter(lambda: page_of("127.0.0.1", TIMEOUT)), 10, "nginx answers", every=PAUSE
            )
            taken.append(1000 * (time.monotonic() - began))
        finally:
            child.kill()
            child.wait(5)
    return statistics.median(taken)
