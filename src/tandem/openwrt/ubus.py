# SPDX-License-Identifier: GPL-2.0-or-later
"""A ubus client: OpenWrt's message bus through libubus, in the manner of its python3-ubus package.

Needs nothing but libubus (any since OpenWrt 19.07) and ctypes, and works on its own:

    from tandem.openwrt.ubus import Method, Ubus

    bus = Ubus()
    bus.connect()
    print(bus.call("system", "board"))                     # [{"kernel": "5.15.134", ...}]
    bus.add("greeter", {"greet": Method(lambda request, arguments: {"text": "hello " + arguments["name"]},
                                        {"name": str})})
    bus.listen("ubus.object.*", lambda event, data: print(event, data))
    bus.subscribe("network.interface", lambda kind, data: print(kind, data))
    bus.loop()                                             # until bus.stop(), or ubusd has gone

or in somebody else's loop: wait until `fileno()` is readable, call `handle()`, and ask `connected`.

What it promises beyond libubus:

- Nothing waits for ever. Every synchronous call ends within `timeout`, also when ubusd hangs: libubus
  itself would wait, so a thread shuts the connection down when the time is over.
- `call_async`, `notify`, `send_event`, replies and `handle` do not wait: with an ubusd that does not read
  any more they raise TIMEOUT, or lose the connection.
- libubus does not check arguments: `add` does, a call with unknown names or wrong types is refused.
- An exception in a callback goes to whoever called `handle()`; the other side gets UNKNOWN_ERROR.
- Connecting leaves the process's signal handlers as they were.

When ubusd goes, everything that was added, listened to or subscribed is gone; connect, and make it again.
libubus keeps static buffers: use one thread only.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import select
import socket
import time
from ctypes import byref

from tandem.openwrt import libubus as lib
from tandem.openwrt.blobmsg import decode
from tandem.openwrt.ubus_guard import ConnectingWatchdog, OwnSignals, Watchdog, await_hello, ready
from tandem.openwrt.ubus_object import Call, Method, Object, UbusError, message_of

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Callable, Collection
    from typing import Any

    Table = dict[str, Any]
    Done = Callable[[int, list[Table]], None]
    Listener = Callable[[str, Table], None]

__all__ = ["SOCKETS", "Call", "Method", "Object", "Ubus", "UbusError", "socket_path"]

SOCKETS = ("/var/run/ubus/ubus.sock", "/var/run/ubus.sock")  # since 21.02; before

_SEND_BUFFER = 4 << 20  # bytes; the largest message then always fits behind what polls writable
_SO_SNDBUFFORCE = 31 if os.uname().machine.startswith("mips") else 32  # asm/socket.h
_MARGIN = 0.5  # s that libubus gets to notice the end of its own timeout


def socket_path() -> str:
    """Where ubusd listens, or would if it ran."""
    return next((path for path in SOCKETS if os.path.exists(path)), SOCKETS[0])


class Pending:
    """A call of ours that waits for its answer."""

    __slots__ = ("done", "only", "replies", "request")

    def __init__(self, done: Done, only: Collection[str] | None) -> None:
        self.request = lib.Request()
        self.done = done
        self.only = only
        self.replies: list[bytes] = []


class _Subscription:
    """Somebody else's object that we are subscribed to."""

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


class Ubus:
    """One connection to ubusd.

    `path` is its socket, `library` the file of libubus; by default those that are there. `timeout` is
    the number of seconds that a synchronous call takes at most.
    """

    def __init__(self, path: str | None = None, *, timeout: float = 3.0, library: str | None = None) -> None:
        """Raises OSError when there is no libubus."""
        self.timeout = timeout
        self.library = lib.load(library)
        self.context: int | None = None
        self.serial = 0  # of the connection
        self.unread = False  # whether something was sent that ubusd may not have read yet
        self.on_end: Callable[[], None] = lambda: None  # before the descriptor of a connection is closed
        self._path = path
        self._subscriber_offset = 0 if lib.subscriber_has_list(self.library) else lib.Subscriber.obj.offset
        self._sock: lib.UloopFd
        self._socket: socket.socket  # a second descriptor of the connection
        # By the address that C calls back with.
        self._objects: dict[int, Object] = {}
        self._listeners: dict[int, tuple[lib.EventHandler, Listener]] = {}
        self._subscribers: dict[int, _Subscription] = {}
        self._pending: dict[int, Pending] = {}
        self._collecting: list[Callable[[int], None]] = []  # of the synchronous calls under way
        self._errors: list[BaseException] = []  # of callbacks
        self._depth = 0  # of calls into libubus
        self._stopping = False
        self._watchdogs: list[Watchdog] = []  # whose thread may not have ended yet
        self.on_method = lib.MethodCallback(self._method)
        self._on_event = lib.EventCallback(self._event)
        self._on_notify = lib.MethodCallback(self._notified)
        self._on_remove = lib.RemoveCallback(self._removed)
        self._on_data = lib.DataCallback(self._data)
        self._on_complete = lib.CompleteCallback(self._complete)
        self._on_reply = lib.DataCallback(lambda _request, _type, message: self._collect(message))
        self._on_found = lib.LookupCallback(lambda _context, found, _private: self._collect(found))

    # The connection

    @property
    def connected(self) -> bool:
        """Whether there is a connection; it may be that its end has not been noticed yet."""
        return self.context is not None

    def fileno(self) -> int:
        """The descriptor to wait on; -1 while not connected."""
        return self._socket.fileno() if self.context is not None else -1

    def connect(self, greeted: bool = False) -> None:
        """Connect to ubusd. UbusError when it is not there, or does not answer in time.

        `greeted`: the caller knows already that it does (`await_hello`).
        """
        if self.context is not None:
            return
        path = self._path or socket_path()
        if not greeted:
            await_hello(path, self.timeout)
        watchdog = ConnectingWatchdog(self.timeout)
        with OwnSignals(), watchdog:
            context = self.library.ubus_connect(path.encode())
        self._watchdogs.append(watchdog)
        if not context:
            self._join()
            raise UbusError(lib.TIMEOUT if watchdog.expired else lib.CONNECTION_FAILED, path)
        self.context = context
        self.unread = False
        self.serial += 1
        atexit.register(self.disconnect)
        self._sock = lib.Context.from_address(context).sock
        self._socket = socket.socket(fileno=os.dup(self._sock.fd))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
        except PermissionError:
            pass  # then a long message may be refused while ubusd is behind

    def disconnect(self) -> None:
        """Leave the bus; what was added goes with it. Calls that wait for an answer fail.

        What was sent before arrives: ubusd does not read what a client has left behind that has hung up,
        so this waits until it has read all, at most for `timeout`.
        """
        if self._depth:
            self._sock.eof = True  # a callback asked: libubus still needs its context
            return
        try:
            if self.unread and self.context is not None:
                self._wait(self.library.ubus_lookup_id, b"", byref(ctypes.c_uint32()))
        finally:
            self._lost()

    def handle(self) -> None:
        """Read what has arrived, one message or a few, and run its callbacks.

        Raises what they raise, the first of it. Without a connection, or when this finds its end,
        nothing else happens than that `connected` is false.
        """
        if self.context is not None:
            self._enter(lambda: self._sock.cb(ctypes.addressof(self._sock), 1))

    def loop(self, timeout: float | None = None) -> None:
        """Handle what comes for `timeout` seconds, until `stop()`, or until the connection ends.

        With 0: what is there. It may take longer while more and more comes.
        """
        end = None if timeout is None else time.monotonic() + timeout
        self._stopping = False
        while self.context is not None and not self._stopping:
            wait = None if end is None else max(0.0, end - time.monotonic())
            if ready(self._socket, select.POLLIN, wait):
                self.handle()
            elif wait == 0:
                return

    def stop(self) -> None:
        """End `loop()` after the message that it handles."""
        self._stopping = True

    def check_writable(self) -> None:
        """UbusError when ubusd does not read what it is sent: to send more could block."""
        if self.context is None:
            raise UbusError(lib.CONNECTION_FAILED)
        if not ready(self._socket, select.POLLOUT, 0):
            raise UbusError(lib.TIMEOUT, "ubusd does not read")
        self.unread = True

    # Calling

    def call(
        self, path: str, method: str, arguments: Table | None = None, timeout: float | None = None
    ) -> list[Table]:
        """Call a method and wait for its replies, most methods send one or none.

        UbusError: NOT_FOUND, METHOD_NOT_FOUND, TIMEOUT (seconds), or whatever the other side says.
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

        `only` names what is wanted of the replies, the rest is skipped. There is no timeout: `cancel`
        what takes too long. UbusError when it can't be sent.
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
        """Wait no longer for a call: its `done` is not called."""
        if self._pending.pop(ctypes.addressof(pending.request), None) is not None:
            self.library.ubus_abort_request(self.context, byref(pending.request))

    def lookup(self, path: str) -> int:
        """The id of an object. UbusError NOT_FOUND when there is none."""
        found = ctypes.c_uint32()
        status = self._wait(self.library.ubus_lookup_id, path.encode(), byref(found))
        if status:
            raise UbusError(status, path)
        return found.value

    def objects(self, path: str | None = None) -> dict[str, dict[str, dict[str, int]]]:
        """The objects by path, with their methods: method -> argument -> blobmsg type.

        All, or those of `path`, which may end in "*".
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
        """Put an object on the bus. UbusError when the name is taken, or not allowed to us."""
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
        """Tell the subscribers of our object; with `timeout` (s) wait until they have answered."""
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
        """Tell everybody who listens to `event`. It does not wait for ubusd: a refusal goes unnoticed.

        libubus's own ubus_send_event would wait, for ever if need be; this is the call that it makes.
        """
        self.check_writable()
        message = message_of({"id": event, "data": values or {}}, "send")
        request = lib.Request()
        status = self.library.ubus_invoke_async_fd(
            self.context, lib.EVENT_OBJECT, b"send", message, byref(request), -1
        )
        self._check_sent(status, event)

    def listen(self, pattern: str, callback: Listener) -> None:
        """Call `callback(event, data)` for every event of that name; "*" at the end stands for any rest."""
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
        """Call `callback(kind, data)` for the notifications of an object, `gone()` when it goes. Its id.

        `only` names what is wanted of the data, the rest is skipped.
        UbusError NOT_FOUND when there is none; listen to `ubus.object.add` to hear of it.
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

    def _wait(self, function: Any, *arguments: Any, timeout: float | None = None) -> int:
        """Call a function of libubus that waits for ubusd; the status."""
        if self.context is None:
            raise UbusError(lib.CONNECTION_FAILED)
        self._join()
        watchdog = Watchdog(self._socket, self.timeout if timeout is None else timeout)
        try:
            with watchdog:
                status: int = self._enter(lambda: function(self.context, *arguments))
        finally:
            self._watchdogs.append(watchdog)
            if not self.connected:
                self._join()
        self.unread = False  # one message after the other
        return lib.TIMEOUT if watchdog.expired else status

    def _check_sent(self, status: int, what: str) -> None:
        """UbusError when a message was not sent; libubus calls it an invalid argument if ubusd has gone."""
        if status:
            raise UbusError(lib.CONNECTION_FAILED if self._sock.eof else status, what)

    def _enter(self, function: Callable[[], Any]) -> Any:
        self._depth += 1
        try:
            result = function()
        finally:
            self._depth -= 1
        if not self._depth:
            if self._sock.eof:
                self._lost()
            if self._errors:
                errors, self._errors = self._errors, []
                raise errors[0]
        return result

    def _join(self) -> None:
        """Wait until the threads of earlier watchdogs have ended; they nearly always have long before."""
        while self._watchdogs:
            self._watchdogs.pop().join()

    def _lost(self) -> None:
        if self.context is None:
            return
        self._join()
        atexit.unregister(self.disconnect)
        self._guard(self.on_end)
        waiting, self._pending = list(self._pending.values()), {}
        self.library.ubus_free(self.context)
        self.context = None
        self._socket.close()
        self._objects.clear()
        self._listeners.clear()
        self._subscribers.clear()
        for pending in waiting:
            self._guard(pending.done, lib.CONNECTION_FAILED, [])

    def _guard(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call back; what is raised waits until libubus has returned."""
        try:
            function(*arguments)
        except BaseException as error:  # noqa: BLE001 - it must not pass through C
            self._errors.append(error)

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
        except BaseException as error:  # noqa: BLE001 - it must not pass through C
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
