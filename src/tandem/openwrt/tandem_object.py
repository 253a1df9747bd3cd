# SPDX-License-Identifier: GPL-2.0-or-later
"""The object `tandem` on ubus: the commands of the control socket, and news of every transition.

    ubus call tandem status
    ubus call tandem failover '{"group": "G1"}'
    ubus subscribe tandem            notifications "transition"
    ubus listen tandem.transition    the same as events

A transition is {"kind": "instance" | "group", "name", "state", "priority", "why", "time"}; time is in
seconds since the epoch. A command that is refused gets NOT_SUPPORTED, and the reply says why in
"error"; a call with arguments that the command does not have gets INVALID_ARGUMENT.
"""

from __future__ import annotations

from collections import deque

from tandem.control.requests import METHODS, REQUESTS
from tandem.control.server import check_arguments
from tandem.openwrt import libubus as lib
from tandem.openwrt.ubus import Call, Method, Object, UbusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tandem.control.server import Handler
    from tandem.loop import Loop
    from tandem.openwrt.connection import Connection

    Table = dict[str, Any]

ARGUMENTS_MAX = 4096  # bytes, like a request on the control socket
CALLS_MAX = 8  # calls under way at the same time
NEWS_MAX = 1024  # transitions that wait for a turn of the loop


class TandemObject:
    """A part of the connection. `handler` runs the commands, as for the control socket."""

    def __init__(self, connection: Connection, loop: Loop, handler: Handler) -> None:
        self._connection = connection
        self._loop = loop
        self._handler = handler
        self._object: Object | None = None
        self._news: deque[Table] = deque(maxlen=NEWS_MAX)
        self._open_calls = 0

    def steps(self) -> Sequence[Callable[[], None]]:
        """Return the step that puts the object on the bus."""
        return (self._add,)

    def lost(self) -> None:
        """Note that the object is no longer on the bus."""
        self._object = None
        self._news.clear()

    def tell(self, transition: Table) -> None:
        """Send a transition after the work that is more urgent."""
        if self._object is not None:
            self._news.append(transition)
            self._loop.call_at("ubus news", self._loop.now(), lambda _now: self.flush())

    def flush(self) -> None:
        """Send the transitions that wait."""
        while self._news and self._object is not None:
            transition, added = self._news.popleft(), self._object
            self._connection.attempt(lambda: self._send(added, transition))  # noqa: B023 - called at once

    def _send(self, added: Object, transition: Table) -> None:
        if added.has_subscribers:
            self._connection.bus.notify(added, "transition", transition)
        self._connection.bus.send_event("tandem.transition", transition)

    def _add(self) -> None:
        methods = {
            command: Method(self._method(command), dict.fromkeys(REQUESTS[command], str), ARGUMENTS_MAX)
            for command in METHODS
        }
        self._object = self._connection.bus.add("tandem", methods)

    def _method(self, command: str) -> Callable[[Call, Table], None]:
        return lambda call, arguments: self._called(command, call, arguments)

    def _called(self, command: str, call: Call, arguments: Table) -> None:
        try:
            check_arguments(command, arguments)
        except ValueError as error:
            raise UbusError(lib.INVALID_ARGUMENT, str(error)) from None
        if self._open_calls >= CALLS_MAX:
            call.reply({"error": f"tandemd already works on {CALLS_MAX} calls, try again"})
            raise UbusError(lib.NOT_SUPPORTED)
        later = call.defer()
        self._open_calls += 1
        over = False

        def finish(status: int) -> None:
            nonlocal over
            if not over:  # a handler may have answered before it raised
                over = True
                self._open_calls -= 1
                later.finish(status)

        def reply(response: Table) -> None:
            if over:
                return
            status = lib.OK if response["ok"] else lib.NOT_SUPPORTED
            try:
                later.reply(_reply_of(response))
            except UbusError as error:
                status = error.status
            finish(status)

        if "by" in REQUESTS[command]:
            arguments = {**arguments, "by": f"{call.user or 'a user'} on ubus"}
        try:
            self._handler({"command": command, **arguments}, reply)
        except BaseException:
            finish(lib.UNKNOWN_ERROR)
            raise


def _reply_of(response: Table) -> Table:
    """Return the control socket's answer as a table without "ok", which the call's status says."""
    if not response["ok"]:
        return {key: value for key, value in response.items() if key != "ok"}
    result = response["result"]
    return result if isinstance(result, dict) else {"result": result}
