# SPDX-License-Identifier: GPL-2.0-or-later
"""`socket` for the resident daemon: the standard library's class without files, on its C module.

The standard library's module makes an enumeration of each family of constants, and has code for files, for
sending files, and for connecting by name.
"""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Socket(_socket.socket):
    """Like socket.socket."""

    __slots__ = ()

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def accept(self) -> tuple[Socket, Any]:
        """Like socket.accept."""
        fd, address = self._accept()  # type: ignore[attr-defined]
        return Socket(self.family, self.type, self.proto, fileno=fd), address


def socketpair(family: int = _socket.AF_UNIX, kind: int = _socket.SOCK_STREAM) -> tuple[Socket, Socket]:
    """Like socket.socketpair."""
    first, second = _socket.socketpair(family, kind)
    return tuple(Socket(family, kind, 0, fileno=one.detach()) for one in (first, second))  # type: ignore[return-value]
