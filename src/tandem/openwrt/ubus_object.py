# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects on the bus: their methods, calls of these methods, and the errors of both sides."""

from __future__ import annotations

import ctypes
from ctypes import byref

from tandem.openwrt import libubus as lib
from tandem.openwrt.blobmsg import MESSAGE_MAX, TYPES, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Callable
    from typing import Any, Protocol

    Table = dict[str, Any]
    Handler = Callable[["Call", Table], Table | None]

    class Ubus(Protocol):
        """The part of `ubus.Ubus` that objects and calls need."""

        library: Any
        context: int | None
        serial: int
        unread: bool
        on_method: Any

        def check_writable(self) -> None: ...


# The argument that uhttpd (ubus.c) adds to every call over HTTP.
_SESSION = "ubus_rpc_session"
_ENVELOPE = 64  # bytes that libubus adds to a message, without names


class UbusError(Exception):
    """A call failed; `status` is one of the UBUS_STATUS_* numbers in libubus.py."""

    def __init__(self, status: int, what: str = "") -> None:
        name = lib.STATUS[status] if 0 <= status < len(lib.STATUS) else f"status {status}"
        super().__init__(f"{what}: {name}" if what else name)
        self.status = status


def message_of(values: Table | None, name: str = "") -> bytes:
    """Return the blob that carries `values`; `name` is that of the object, method or event.

    UbusError when the values have no form in blobmsg, or are too long. libubus reads foreign memory when a
    notification is too long, and ubusd hangs up on the sender of a reply that is too long.
    """
    try:
        message = encode(values or {})
    except (ValueError, TypeError) as error:
        raise UbusError(lib.INVALID_ARGUMENT, str(error)) from None
    if len(message) + len(name) + _ENVELOPE > MESSAGE_MAX:
        raise UbusError(lib.INVALID_ARGUMENT, f"a message of {len(message)} bytes")
    return message


class Method:
    """A method to add: `handler(call, arguments)` may return the reply, or reply by `call`.

    `arguments` are the types by name: str, int, bool, float, dict, list. All are optional.
    Calls with more than `arguments_max` bytes of arguments are refused unread.
    """

    __slots__ = ("arguments", "arguments_max", "handler")

    def __init__(
        self, handler: Handler, arguments: dict[str, type] | None = None, arguments_max: int = MESSAGE_MAX
    ) -> None:
        self.handler = handler
        self.arguments = arguments or {}
        self.arguments_max = arguments_max

    def check(self, message: bytes) -> Table:
        """Return the arguments in `message`. UbusError when they do not fit the method."""
        if len(message) > self.arguments_max:
            raise UbusError(lib.INVALID_ARGUMENT, f"arguments of {len(message)} bytes")
        try:
            given = decode(message)
        except ValueError as error:
            raise UbusError(lib.INVALID_ARGUMENT, str(error)) from None
        given.pop(_SESSION, None)
        for name, value in given.items():
            wanted = self.arguments.get(name)
            if wanted is None:
                raise UbusError(lib.INVALID_ARGUMENT, f"unknown argument {name!a}")
            if type(value) is not wanted and not (wanted is float and type(value) is int):
                raise UbusError(lib.INVALID_ARGUMENT, f"the argument {name} is not of type {wanted.__name__}")
        return given


class Call:
    """A call of an added method by another program. It ends when the handler returns, or at `finish`."""

    __slots__ = ("_bus", "_data", "_serial")

    def __init__(self, bus: Ubus, data: lib.RequestData) -> None:
        self._bus = bus
        self._data = data
        self._serial = bus.serial  # 0: it has ended

    @property
    def user(self) -> str:
        """The user that ubusd has authenticated as the caller; valid only inside the handler."""
        name: bytes | None = self._data.user
        return name.decode(errors="backslashreplace") if name else ""

    def reply(self, values: Table) -> None:
        """Send a reply; a call may get several. UbusError when the reply can't be sent."""
        message = message_of(values)
        if self._bus.context is not None and self._bus.serial == self._serial:
            self._bus.check_writable()
            if self._bus.library.ubus_send_reply(self._bus.context, byref(self._data), message):
                raise UbusError(lib.CONNECTION_FAILED, "reply")

    def defer(self) -> Call:
        """Return a call that can be answered after the handler has returned; `finish` it once."""
        later = Call(self._bus, lib.RequestData.from_buffer_copy(self._data))
        self._data.deferred = True
        return later

    def finish(self, status: int = lib.OK) -> None:
        """End a deferred call. Nothing happens when the connection has gone meanwhile."""
        if self._bus.context is not None and self._bus.serial == self._serial:
            self._bus.unread = True
            self._bus.library.ubus_complete_deferred_request(self._bus.context, byref(self._data), status)
        self._serial = 0

    def expire(self) -> None:
        """End the use of libubus's structure, which is valid only until the handler returns."""
        self._serial = 0


class Object:
    """An object that this process has put on the bus, as `Ubus.add` makes it."""

    def __init__(self, bus: Ubus, name: str, methods: dict[str, Method]) -> None:
        self.name = name
        self.methods = methods
        table = (lib.Method * len(methods))()
        for place, (method_name, method) in zip(table, methods.items(), strict=True):
            policies = (lib.Policy * len(method.arguments))()
            for policy, (argument, kind) in zip(policies, method.arguments.items(), strict=True):
                policy.name, policy.type = argument.encode(), TYPES[kind]
            place.name, place.handler = method_name.encode(), bus.on_method
            place.policy, place.n_policy = policies, len(policies)
        signature = lib.ObjectType(name.encode(), 0, table, len(methods))
        self.struct = lib.Object(
            name=name.encode(), type=ctypes.pointer(signature), methods=table, n_methods=len(methods)
        )

    @property
    def id(self) -> int:
        """The object's number on the bus."""
        return int(self.struct.id)

    @property
    def has_subscribers(self) -> bool:
        """Whether notifications of the object have a receiver."""
        return bool(self.struct.has_subscribers)
