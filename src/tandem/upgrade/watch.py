# SPDX-License-Identifier: GPL-2.0-or-later
"""The coordinator's view of both routers, and the doctor's findings; it asks the daemon here for both."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tandem.control.client import ControlError, ask
from tandem.programs import PACKAGE_DIR, PATH, own_command
from tandem.upgrade import report as reports
from tandem.upgrade.job import manager, read_report
from tandem.upgrade.view import BY_HAND, HERE, THERE, PairView, RouterView

DOCTOR_S = 120.0
# Findings of the doctor that stop no upgrade: two releases, which it cures, and a daemon that was late in the
# past, which it does not change. A slow router is late once more whenever packages are installed.
_NO_OBSTACLES = {"version", "realtime"}

Json = dict[str, Any]


def peer_of(status: Json) -> str:
    """Return the name of the one peer. ControlError: there is none, or there are several."""
    names = [str(peer["name"]) for peer in status["peers"]]
    if len(names) == 1:
        return names[0]
    how_many = "no channel to another router (config peer)" if not names else f"{len(names)} peers"
    raise ControlError(f"tandem upgrade is for two routers, and this one has {how_many}")


class Watch:
    """Looks at the pair again and again. `peer`: the name of the other router."""

    def __init__(self, control: str, status: Json) -> None:
        self._control = control
        self._peer = peer_of(status)
        self._name = str(status["router_id"]) or "this router"
        found = manager()
        self._by_hand = found.by_hand() if found is not None else BY_HAND

    def look(self, order: str = "") -> PairView:
        """Return both routers as they are now; the peer gets the order, which it obeys once."""
        report = read_report(self._control)
        try:
            status = ask(self._control, "status")
            peer = next(peer for peer in status["peers"] if peer["name"] == self._peer)
            groups = [str(group["name"]) for group in status["groups"]]
            states = tuple(str(group["state"]) for group in status["groups"])
        except (ControlError, StopIteration, KeyError, TypeError) as error:
            silence = str(error) if isinstance(error, ControlError) else f"{self._peer} is no peer any more"
            here = RouterView(self._name, report=report, by_hand=self._by_hand, silence=silence)
            return PairView(here, RouterView(self._peer))
        here = RouterView(self._name, True, int(status["pid"]), states, report, self._by_hand)
        # The health says for some seconds more that the peer was away.
        stale = bool(status["health"].get("replication_stale"))
        in_step = bool(peer["connected"]) and peer["connections"] in ("in step", "off") and not stale
        return PairView(here, self._there(peer, groups, order), in_step, _preferred(status))

    def _there(self, peer: Json, groups: list[str], order: str) -> RouterView:
        states = tuple(str(peer["roles"].get(name, "not known")) for name in groups)
        try:
            answer = ask(self._control, "upgrade_peer", timeout_s=10.0, peer=self._peer, order=order or None)
            pid, report = int(answer["pid"]), reports.decode(str(answer["report"]).encode())
        except (ControlError, KeyError, TypeError, ValueError) as error:
            return RouterView(self._peer, states=states, silence=str(error))
        return RouterView(self._peer, True, pid, states, report)

    def examine(self) -> list[str]:
        """Return what the doctor finds on both routers; it runs from the files that are installed now."""
        argv = own_command(PACKAGE_DIR, "doctor", "--json", "--control", self._control)
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=DOCTOR_S, env={"PATH": PATH}, cwd="/"
            )
            found = json.loads(done.stdout)
            return [
                ": ".join(filter(None, (str(one["router"]), str(one["what"]))))
                for one in found["findings"]
                if one["check"] not in _NO_OBSTACLES
            ]
        except subprocess.TimeoutExpired:
            return [f"the doctor took more than {DOCTOR_S:g} s"]
        except (OSError, ValueError, KeyError, TypeError):
            return ["the doctor could not look; run `tandem doctor`"]


def _preferred(status: Json) -> str:
    """Return the router that preempts, as far as this router has heard the other one's priority."""
    found = set()
    for instance in status["instances"]:
        heard = instance["peer"]["priority"] if instance["peer"] is not None else 0
        mine = instance["priority"]["effective"]
        if not instance["preempt"] or not heard or heard == mine:
            return ""
        found.add(HERE if mine > heard else THERE)
    return found.pop() if len(found) == 1 else ""
