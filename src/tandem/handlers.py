# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's side of every request, from the control socket and from ubus."""

from __future__ import annotations

from tandem import __version__
from tandem.control.operate import operate
from tandem.control.status import snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.control.history import History
    from tandem.control.server import Reply
    from tandem.control.standby import Standby
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.router import Router
    from tandem.serving import Serving
    from tandem.sharing import Sharing
    from tandem.status_schema import DaemonFacts

    Request = dict[str, str]


def _tried(name: str, found: str) -> dict[str, object]:
    if found:
        return {"ok": False, "error": f"service {name}: {found}"}
    return {"ok": True, "result": f"service {name}: its agent can be started twice and stopped twice"}


LATER = object()  # the result of a method that calls `reply` itself


class Handlers:
    """A method `do_NAME` for each request in `requests`: it returns the result, or LATER.

    `facts` gives the part of the status that only the daemon knows, `reload` begins a reload, `caught` gets
    bugs.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        router: Router,
        sharing: Sharing,
        history: History,
        standby: Standby,
        serving: Serving,
        facts: Callable[[], DaemonFacts],
        reload: Callable[[Reply], None],
        caught: Callable[[Exception], None],
    ) -> None:
        self._loop = loop
        self._log = log
        self._router = router
        self._sharing = sharing
        self._history = history
        self._standby = standby
        self._serving = serving
        self._facts = facts
        self._reload = reload
        self._caught = caught

    def handle(self, request: Request, reply: Reply) -> None:
        """Carry out a request whose command and arguments are known; `reply` gets the response, once."""
        command = request["command"]
        try:
            result = getattr(self, f"do_{command}")(request, reply)
        except ValueError as error:
            reply({"ok": False, "error": str(error)})
        except Exception as error:  # noqa: BLE001 - the client gets an answer
            self._caught(error)
            reply({"ok": False, "error": f"{command} failed: {error!r}; look for the traceback in the log"})
        else:
            if result is not LATER:
                reply({"ok": True, "result": result})

    # For people to see

    def do_status(self, request: Request, _reply: Reply) -> object:
        """Show everything that is known now, or only what the words of "only" name."""
        found = snapshot(self._router, self._loop, self._standby, self._facts())
        words = request.get("only", "").split()
        return {name: value for name, value in found.items() if name in words} if words else found

    def do_history(self, _request: Request, _reply: Reply) -> object:
        """Show the last transitions."""
        return {"transitions": self._history.entries(self._loop.now())}

    def do_conntrack(self, _request: Request, _reply: Reply) -> object:
        """Show the state of connection replication."""
        return self._sharing.replicating().status()

    def do_conntrack_list(self, request: Request, _reply: Reply) -> object:
        """Show a part of this router's connections, or of the connections that it holds for a peer."""
        return self._sharing.replicating().listing(request.get("peer"), request.get("cursor", "0"))

    def do_services(self, _request: Request, _reply: Reply) -> object:
        """Show the services."""
        return {"services": self._serving.status()}

    def do_checks(self, _request: Request, _reply: Reply) -> object:
        """Show the checks."""
        facts = self._facts()
        return {"checks": facts["checks"], "virtual_servers": facts["virtual_servers"]}

    def do_version(self, _request: Request, _reply: Reply) -> object:
        """Show the daemon's version."""
        return {"version": __version__}

    def do_examine(self, request: Request, reply: Reply) -> object:
        """Have all routers examined for the doctor; without a channel there are no others."""
        if self._sharing.doctor is None:
            return {}
        self._sharing.doctor.examine(request.get("listen", "4"), reply)
        return LATER

    def do_upgrade_peer(self, request: Request, reply: Reply) -> object:
        """Give a peer an order of `tandem upgrade`, or only get its report."""
        self._sharing.upgrade_peer(request.get("peer", ""), request.get("order", ""), reply)
        return LATER

    # For people to act

    def do_failover(self, request: Request, reply: Reply) -> object:
        """Hand the role over."""
        return self._operate(request, reply)

    def do_standby(self, request: Request, reply: Reply) -> object:
        """Take this router out of service."""
        return self._operate(request, reply)

    def do_resume(self, request: Request, reply: Reply) -> object:
        """End standby and the hold after a failover."""
        return self._operate(request, reply)

    def do_service(self, request: Request, reply: Reply) -> object:
        """Move, clear, start or stop a service."""
        manager = self._serving.manager
        if manager is None:
            raise ValueError("there is no service section")
        action, name, who = request.get("action", ""), request.get("name", ""), request.get("by", "")
        group = manager.group_of(name)
        self._log.info(f"service {name}: {action} asked for{f' by {who}' if who else ''}")
        if action == "move":
            if not group:
                raise ValueError(f"service {name} runs everywhere: it cannot move")
            return self._operate({"command": "failover", "group": group, "by": who}, reply)
        if action == "clear":
            manager.clear(name)
        elif action in ("start", "stop"):
            manager.disable(name, action == "stop")
        elif action == "trial":
            manager.trial(name, lambda found: reply(_tried(name, found)))
            return LATER
        else:
            raise ValueError(f"no action {action!r}; known: move, clear, start, stop, trial")
        return f"service {name}: {action} asked for"

    def do_reload(self, _request: Request, reply: Reply) -> object:
        """Read the configuration again."""
        self._reload(reply)
        return LATER

    def _operate(self, request: Request, reply: Reply) -> object:
        def done(result: object) -> None:
            reply({"ok": True, "result": result})

        operate(self._router, self._log, self._standby, request, self._serving.leave, done)
        return LATER
