# SPDX-License-Identifier: GPL-2.0-or-later
"""A ubus client: OpenWrt's message bus through libubus, in the manner of its python3-ubus package.

The client needs only libubus (any since OpenWrt 19.07) and ctypes, and works on its own:

    from tandem.openwrt.ubus import Method, Ubus

    bus = Ubus()
    bus.connect()
    print(bus.call("system", "board"))                     # [{"kernel": "5.15.134", ...}]
    bus.add("greeter", {"greet": Method(lambda request, arguments: {"text": "hello " + arguments["name"]},
                                        {"name": str})})
    bus.listen("ubus.object.*", lambda event, data: print(event, data))
    bus.subscribe("network.interface", lambda kind, data: print(kind, data))
    bus.loop()                                             # until bus.stop(), or ubusd has gone

or in another event loop: wait until `fileno()` is readable, call `handle()`, and ask `connected`.

The client promises more than libubus:

- Nothing waits for ever. Every synchronous call ends within `timeout`, also when ubusd hangs: libubus
  itself would wait, so a thread shuts the connection down after the timeout.
- `call_async`, `notify`, `send_event`, replies and `handle` do not wait: when ubusd no longer reads,
  they raise TIMEOUT or lose the connection.
- libubus does not check arguments. Here a call with unknown names or wrong types is refused.
- An exception in a callback goes to the caller of `handle()`; the other side gets UNKNOWN_ERROR.
- Connecting leaves the process's signal handlers as they were.

When ubusd ends, all objects, listeners and subscriptions are gone: connect, and make them again.
libubus keeps static buffers: use one thread only.
"""

from __future__ import annotations

import ctypes
from ctypes import byref

from tandem.openwrt import libubus as lib
from tandem.openwrt.blobmsg import decode
from tandem.openwrt.ubus_connection import SOCKETS, UbusConnection, socket_path
from tandem.openwrt.ubus_object import Call, Method, Object, UbusError, message_of

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Callable, Collection
    from typing import Any

    Table = dict[str, Any]
    Done = Callable[[int, list[Table]], None]
    Listener = Callable[[str, Table], None]

__all__ = ["SOCKETS", "Call", "Method", "Object", "Ubus", "UbusError", "socket_path"]

_MARGIN = 0.5  # s for libubus to notice the end of its own timeout


class Pending:
    """A call by this process that waits for its answer."""

    __slots__ = ("done", "only", "replies", "request")

    def __init__(self, done: Done, only: Collection[str] | None) -> None:
        self.request = lib.Request()
        self.done = done
        self.only = only
        self.replies: list[bytes] = []


class _Subscription:
    """A subscription to another program's object."""

    __slots__ = ("callback", "gone", "only", "struct")

    def __init__(
        self,
        struct: lib.Subscriber,
        callback: Listener,
        gone: Callable[[], None],
        only: Collection[str] | None,
    ) -> None:
        self.struct = struct
        self.callback = callback
        self.gone = gone
        self.only = only


class Ubus(UbusConnection):
    """One connection to ubusd.

    `path` is ubusd's socket, `library` the file of libubus; the defaults are the installed ones. A
    synchronous call ends within `timeout` seconds.
    """

    def __init__(self, path: str | None = None, *, timeout: float = 3.0, library: str | None = None) -> None:
        """Load libubus; OSError when there is none."""
        super().__init__(path, timeout, library)
        self._subscriber_offset = 0 if lib.subscriber_has_list(self.library) else lib.Subscriber.obj.offset
        # Keys are addresses of C structures, which libubus passes to callbacks.
        self._objects: dict[int, Object] = {}
        self._listeners: dict[int, tuple[lib.EventHandler, Listener]] = {}
        self._subscribers: dict[int, _Subscription] = {}
        self._pending: dict[int, Pending] = {}
        self._collecting: list[Callable[[int], None]] = []  # those of synchronous calls under way
        self.on_method = lib.MethodCallback(self._method)
        self._on_event = lib.EventCallback(self._event)
        self._on_notify = lib.MethodCallback(self._notified)
        self._on_remove = lib.RemoveCallback(self._removed)
        self._on_data = lib.DataCallback(self._data)
        self._on_complete = lib.CompleteCallback(self._complete)
        self._on_reply = lib.DataCallback(lambda _request, _type, message: self._collect(message))
        self._on_found = lib.LookupCallback(lambda _context, found, _private: self._collect(found))

    # Calling

    def call(
        self, path: str, method: str, arguments: Table | None = None, timeout: float | None = None
    ) -> list[Table]:
        """Call a method and wait for its replies; most methods send one or none.

        UbusError: NOT_FOUND, METHOD_NOT_FOUND, TIMEOUT (seconds), or the status that the other side answers.
        """
        timeout = self.timeout if timeout is None else timeout
        found = self.lookup(path)
        message = message_of(arguments, method)
        replies: list[Table] = []
        self._collecting.append(lambda address: replies.append(decode(lib.read_message(address))))
        milliseconds = max(1, int(timeout * 1000))  # 0 would be for ever
        try:
            status = self._wait(
                self.library.ubus_invoke_fd, found, method.encode(), message, self._on_reply, None,
                milliseconds, -1, timeout=timeout + _MARGIN,
            )  # fmt: skip
        finally:
            self._collecting.pop()
        if status:
            raise UbusError(status, f"{path} {method}")
        return replies

    def call_async(
        self,
        object_id: int,
        method: str,
        arguments: Table | None,
        done: Done,
        only: Collection[str] | None = None,
    ) -> Pending:
        """Call a method of the object with that id; `done(status, replies)` comes from `handle()`.

        `only` names the wanted fields of the replies, the rest is skipped. There is no timeout: `cancel`
        a call that lasts too long. UbusError when the call can't be sent.
        """
        self.check_writable()
        pending = Pending(done, only)
        message = message_of(arguments, method)
        request = pending.request
        status = self.library.ubus_invoke_async_fd(
            self.context, object_id, method.encode(), message, byref(request), -1
        )
        self._check_sent(status, method)
        request.data_cb = self._on_data
        request.complete_cb = self._on_complete
        self._pending[ctypes.addressof(request)] = pending
        self.library.ubus_complete_request_async(self.context, byref(request))
        return pending

    def cancel(self, pending: Pending) -> None:
        """Stop waiting for a call: its `done` is not called."""
        if self._pending.pop(ctypes.addressof(pending.request), None) is not None:
            self.library.ubus_abort_request(self.context, byref(pending.request))

    def lookup(self, path: str) -> int:
        """Return the id of the object at `path`. UbusError NOT_FOUND: there is none."""
        found = ctypes.c_uint32()
        status = self._wait(self.library.ubus_lookup_id, path.encode(), byref(found))
        if status:
            raise UbusError(status, path)
        return found.value

    def objects(self, path: str | None = None) -> dict[str, dict[str, dict[str, int]]]:
        """Return the objects by path, with their methods: method -> argument -> blobmsg type.

        `path` may end in "*"; without it, the result is all objects.
        """
        objects: dict[str, dict[str, dict[str, int]]] = {}

        def found(address: int) -> None:
            data = lib.ObjectData.from_address(address)
            signature = decode(lib.read_message(data.signature)) if data.signature else {}
            objects[data.path.decode("utf-8", "surrogateescape")] = signature

        self._collecting.append(found)
        try:
            status = self._wait(
                self.library.ubus_lookup, path.encode() if path else None, self._on_found, None
            )
        finally:
            self._collecting.pop()
        if status and status != lib.NOT_FOUND:
            raise UbusError(status, "lookup")
        return objects

    # Being called

    def add(self, name: str, methods: dict[str, Method]) -> Object:
        """Put an object on the bus. UbusError: the name is in use, or this user may not use it."""
        added = Object(self, name, methods)
        address = ctypes.addressof(added.struct)
        status = self._wait(self.library.ubus_add_object, address)
        if status:
            raise UbusError(status, name)
        self._objects[address] = added
        return added

    def remove(self, added: Object) -> None:
        """Take an object off the bus."""
        address = ctypes.addressof(added.struct)
        if address in self._objects:
            status = self._wait(self.library.ubus_remove_object, address)
            if status:
                raise UbusError(status, added.name)
            del self._objects[address]

    def notify(
        self, added: Object, kind: str, values: Table | None = None, timeout: float | None = None
    ) -> None:
        """Notify the subscribers of an added object; with `timeout` (s) wait until they have answered."""
        message = message_of(values, kind)
        address = ctypes.addressof(added.struct)
        if timeout is None:
            self.check_writable()
            status = self.library.ubus_notify(self.context, address, kind.encode(), message, -1)
        else:
            milliseconds = max(1, int(timeout * 1000))
            status = self._wait(
                self.library.ubus_notify, address, kind.encode(), message, milliseconds,
                timeout=timeout + _MARGIN,
            )  # fmt: skip
        self._check_sent(status, f"notify {kind}")

    # Events and notifications

    def send_event(self, event: str, values: Table | None = None) -> None:
        """Send an event to all listeners. This does not wait for ubusd: a refusal goes unnoticed.

        libubus's own ubus_send_event would wait, possibly for ever; this makes the same call to ubusd.
        """
        self.check_writable()
        message = message_of({"id": event, "data": values or {}}, "send")
        request = lib.Request()
        status = self.library.ubus_invoke_async_fd(
            self.context, lib.EVENT_OBJECT, b"send", message, byref(request), -1
        )
        self._check_sent(status, event)

    def listen(self, pattern: str, callback: Listener) -> None:
        """Call `callback(event, data)` for every event of that name; a "*" at the end matches any rest."""
        handler = lib.EventHandler(cb=self._on_event)
        address = ctypes.addressof(handler)
        self._listeners[address] = handler, callback
        status = self._wait(self.library.ubus_register_event_handler, address, pattern.encode())
        if status:
            self._listeners.pop(address, None)
            raise UbusError(status, pattern)

    def subscribe(
        self,
        path: str,
        callback: Listener,
        gone: Callable[[], None] = lambda: None,
        only: Collection[str] | None = None,
    ) -> int:
        """Call `callback(kind, data)` for notifications of an object, and `gone()` at its end; return its id.

        `only` names the wanted fields of the data, the rest is skipped. UbusError NOT_FOUND: there is no
        such object; the event `ubus.object.add` tells when it appears.
        """
        found = self.lookup(path)
        subscriber = lib.Subscriber(cb=self._on_notify, remove_cb=self._on_remove)
        address = ctypes.addressof(subscriber) + self._subscriber_offset
        status = self._wait(self.library.ubus_register_subscriber, address)
        if not status:
            self._subscribers[ctypes.addressof(subscriber)] = _Subscription(subscriber, callback, gone, only)
            status = self._wait(self.library.ubus_subscribe, address, found)
        if status:
            raise UbusError(status, path)
        return found

    # Within

    def _ending(self) -> Callable[[], None]:
        waiting, self._pending = list(self._pending.values()), {}

        def ended() -> None:
            self._objects.clear()
            self._listeners.clear()
            self._subscribers.clear()
            for pending in waiting:
                self._guard(pending.done, lib.CONNECTION_FAILED, [])

        return ended

    def _collect(self, address: int) -> None:
        self._guard(self._collecting[-1], address)

    def _method(self, _context: int, address: int, request: int, name: bytes, message: int) -> int:
        call = Call(self, lib.RequestData.from_address(request))
        try:
            method = self._objects[address].methods[name.decode()]
            reply = method.handler(call, method.check(lib.read_message(message)))
            if reply is not None:
                call.reply(reply)
        except UbusError as error:
            return error.status
        except BaseException as error:  # noqa: BLE001 - no exception may pass through C
            self._errors.append(error)
            return lib.UNKNOWN_ERROR
        finally:
            call.expire()
        return lib.OK

    def _event(self, _context: int, address: int, name: bytes, message: int) -> None:
        def run() -> None:
            if address in self._listeners:
                callback = self._listeners[address][1]
                callback(_text(name), decode(lib.read_message(message)))

        self._guard(run)

    def _notified(self, _context: int, address: int, _request: int, kind: bytes, message: int) -> int:
        def run() -> None:
            found = self._subscribers.get(address - lib.Subscriber.obj.offset)
            if found is not None:
                found.callback(_text(kind), decode(lib.read_message(message), found.only))

        self._guard(run)
        return lib.OK

    def _removed(self, _context: int, address: int, _id: int) -> None:
        found = self._subscribers.get(address - self._subscriber_offset)
        if found is not None:
            self._guard(found.gone)

    def _data(self, request: int, _type: int, message: int) -> None:
        if request in self._pending:
            self._pending[request].replies.append(lib.read_message(message))

    def _complete(self, request: int, status: int) -> None:
        def run() -> None:
            pending = self._pending.pop(request)
            try:
                replies = [decode(reply, pending.only) for reply in pending.replies]
            except ValueError:
                pending.done(lib.PARSE_ERROR, [])
            else:
                pending.done(status, replies)

        # A request that newer releases end with the connection is left to _lost, as in older ones.
        if request in self._pending and not self._sock.eof:
            self._guard(run)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
