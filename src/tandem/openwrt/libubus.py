# SPDX-License-Identifier: GPL-2.0-or-later
"""libubus for ctypes: finds the library and declares its structures and functions, which `ubus.py` uses.

Layouts come from libubus.h and libubox of OpenWrt 19.07 to 2025; ctypes computes the offsets, so that
one declaration serves 32 and 64 bits. Two things differ between the releases:

- The name of the file: see `find_libubus`.
- `struct ubus_subscriber` has had a list head in front since November 2023. The wrong layout fails silently:
  every call returns 0, and no notification arrives. `subscriber_has_list` tells which layout it is.

The library does not export the static inline functions of libubus.h: ubus.py does their work in Python.
"""

from __future__ import annotations

import ctypes
import struct
from ctypes import CFUNCTYPE, POINTER, Structure, c_bool, c_char_p, c_int, c_uint16, c_uint32, c_void_p

from tandem.openwrt import find_libubus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OK = 0
INVALID_COMMAND = 1
INVALID_ARGUMENT = 2
METHOD_NOT_FOUND = 3
NOT_FOUND = 4
NO_DATA = 5
PERMISSION_DENIED = 6
TIMEOUT = 7
NOT_SUPPORTED = 8
UNKNOWN_ERROR = 9
CONNECTION_FAILED = 10
PARSE_ERROR = 12

STATUS = (
    "Success", "Invalid command", "Invalid argument", "Method not found", "Not found", "No response",
    "Permission denied", "Request timed out", "Operation not supported", "Unknown error",
    "Connection failed", "Out of memory", "Parsing message data failed", "System error",
)  # fmt: skip

EVENT_OBJECT = 1  # UBUS_SYSTEM_OBJECT_EVENT

# ubus_handler_t and similar types: context, object, request, method, message.
MethodCallback = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_char_p, c_void_p)
StateCallback = CFUNCTYPE(None, c_void_p, c_void_p)
RemoveCallback = CFUNCTYPE(None, c_void_p, c_void_p, c_uint32)
EventCallback = CFUNCTYPE(None, c_void_p, c_void_p, c_char_p, c_void_p)
DataCallback = CFUNCTYPE(None, c_void_p, c_int, c_void_p)
CompleteCallback = CFUNCTYPE(None, c_void_p, c_int)
LookupCallback = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p)
SocketCallback = CFUNCTYPE(None, c_void_p, ctypes.c_uint)


class ListHead(Structure):
    _fields_ = [("next", c_void_p), ("prev", c_void_p)]


class AvlNode(Structure):
    _fields_ = [
        ("list", ListHead),
        ("parent", c_void_p), ("left", c_void_p), ("right", c_void_p),
        ("key", c_void_p),
        ("balance", ctypes.c_byte), ("leader", c_bool),
    ]  # fmt: skip


class AvlTree(Structure):
    _fields_ = [
        ("list_head", ListHead),
        ("root", c_void_p),
        ("count", ctypes.c_uint), ("allow_dups", c_bool),
        ("comp", c_void_p), ("cmp_ptr", c_void_p),
    ]  # fmt: skip


class UloopFd(Structure):
    _fields_ = [
        ("cb", SocketCallback),
        ("fd", c_int),
        ("eof", c_bool), ("error", c_bool), ("registered", c_bool),
        ("flags", ctypes.c_uint8),
    ]  # fmt: skip


class Context(Structure):
    """The beginning of struct ubus_context, which ubus_connect allocates; the rest depends on the release."""

    _fields_ = [("requests", ListHead), ("objects", AvlTree), ("pending", ListHead), ("sock", UloopFd)]


class Policy(Structure):
    _fields_ = [("name", c_char_p), ("type", c_int)]


class Method(Structure):
    _fields_ = [
        ("name", c_char_p), ("handler", MethodCallback),
        ("mask", ctypes.c_ulong), ("tags", ctypes.c_ulong),
        ("policy", POINTER(Policy)), ("n_policy", c_int),
    ]  # fmt: skip


class ObjectType(Structure):
    _fields_ = [("name", c_char_p), ("id", c_uint32), ("methods", POINTER(Method)), ("n_methods", c_int)]


class Object(Structure):
    _fields_ = [
        ("avl", AvlNode),
        ("name", c_char_p), ("id", c_uint32), ("path", c_char_p),
        ("type", POINTER(ObjectType)),
        ("subscribe_cb", StateCallback), ("has_subscribers", c_bool),
        ("methods", POINTER(Method)), ("n_methods", c_int),
    ]  # fmt: skip


class EventHandler(Structure):
    _fields_ = [("obj", Object), ("cb", EventCallback)]


class Subscriber(Structure):
    """struct ubus_subscriber since November 2023; the earlier one has no `list` and `new_obj_cb`."""

    _fields_ = [
        ("list", ListHead),
        ("obj", Object),
        ("cb", MethodCallback), ("remove_cb", RemoveCallback), ("new_obj_cb", c_void_p),
    ]  # fmt: skip


class ObjectData(Structure):
    _fields_ = [("id", c_uint32), ("type_id", c_uint32), ("path", c_char_p), ("signature", c_void_p)]


class RequestData(Structure):
    """struct ubus_request_data: a call that another program has made."""

    _fields_ = [
        ("object", c_uint32), ("peer", c_uint32), ("seq", c_uint16),
        ("user", c_char_p), ("group", c_char_p), ("acl_object", c_char_p),
        ("deferred", c_bool), ("fd", c_int), ("req_fd", c_int),
    ]  # fmt: skip


class Request(Structure):
    """struct ubus_request: a call that this program makes."""

    _fields_ = [
        ("list", ListHead), ("pending", ListHead),
        ("status_code", c_int),
        ("status_msg", c_bool), ("blocked", c_bool), ("cancelled", c_bool), ("notify", c_bool),
        ("peer", c_uint32), ("seq", c_uint16),
        ("raw_data_cb", c_void_p), ("data_cb", DataCallback), ("fd_cb", c_void_p),
        ("complete_cb", CompleteCallback),
        ("fd", c_int), ("ctx", c_void_p), ("priv", c_void_p),
    ]  # fmt: skip


_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ubus_connect": (c_void_p, (c_char_p,)),
    "ubus_free": (None, (c_void_p,)),
    "ubus_add_object": (c_int, (c_void_p, c_void_p)),
    "ubus_remove_object": (c_int, (c_void_p, c_void_p)),
    "ubus_lookup": (c_int, (c_void_p, c_char_p, LookupCallback, c_void_p)),
    "ubus_lookup_id": (c_int, (c_void_p, c_char_p, POINTER(c_uint32))),
    "ubus_invoke_fd": (
        c_int, (c_void_p, c_uint32, c_char_p, c_char_p, DataCallback, c_void_p, c_int, c_int)
    ),
    "ubus_invoke_async_fd": (c_int, (c_void_p, c_uint32, c_char_p, c_char_p, POINTER(Request), c_int)),
    "ubus_complete_request_async": (None, (c_void_p, POINTER(Request))),
    "ubus_abort_request": (None, (c_void_p, POINTER(Request))),
    "ubus_send_reply": (c_int, (c_void_p, POINTER(RequestData), c_char_p)),
    "ubus_complete_deferred_request": (None, (c_void_p, POINTER(RequestData), c_int)),
    "ubus_notify": (c_int, (c_void_p, c_void_p, c_char_p, c_char_p, c_int)),
    "ubus_register_event_handler": (c_int, (c_void_p, c_void_p, c_char_p)),
    "ubus_register_subscriber": (c_int, (c_void_p, c_void_p)),
    "ubus_subscribe": (c_int, (c_void_p, c_void_p, c_uint32)),
    "ubus_unsubscribe": (c_int, (c_void_p, c_void_p, c_uint32)),
}  # fmt: skip


def load(path: str | None = None) -> ctypes.CDLL:
    """Return libubus with its prototypes: the library at `path`, or the installed one.

    Raises OSError when there is no such file, or when the file is not a libubus.
    """
    path = path or find_libubus()
    if path is None:
        raise OSError("no libubus in /lib and /usr/lib")
    library = ctypes.CDLL(path)
    for name, (result, arguments) in _PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise OSError(f"{path} is not a libubus: it has no {name}") from None
        function.restype, function.argtypes = result, arguments
    return library


def subscriber_has_list(library: ctypes.CDLL) -> bool:
    """Whether this libubus's struct ubus_subscriber begins with a list head.

    This registers a subscriber with a context that is not connected. The call fails, but the newer libubus
    has initialised the list head by then. The older libubus writes only within the same memory.
    """
    context = ctypes.create_string_buffer(4096)  # more than any struct ubus_context
    Context.from_buffer(context).sock.fd = -1
    subscriber = ctypes.create_string_buffer(1024)
    library.ubus_register_subscriber(context, subscriber)
    return bool(ListHead.from_buffer(subscriber).next == ctypes.addressof(subscriber))


def read_message(address: int) -> bytes:
    """Return the blob at `address`, header included."""
    length = struct.unpack(">I", ctypes.string_at(address, 4))[0] & 0x00FFFFFF
    return ctypes.string_at(address, length)
