# SPDX-License-Identifier: GPL-2.0-or-later
"""TableWatch: notices when another program changes nftables, as `nft flush ruleset` does.

Every transaction of nftables ends with one message that names its program. A filter in the kernel drops all
other messages and those of our own transactions. A program that fills a set costs one wake each PAUSE; a
router where no program changes nftables has no wakes.
"""

from __future__ import annotations

import errno
import socket

from tandem.effects.bpf import ALL, JEQ, LD_H_ABS, LD_W_ABS, RET, Program, assemble, attach, swap16, swap32
from tandem.effects.netlink import NETLINK_NETFILTER, attributes, messages, open_netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.log import Logger
    from tandem.loop import Loop

PAUSE = 100_000_000  # ns between two looks: another program may undo our changes
_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES = 270, 1, 7
_NEWGEN = 0xA0F  # NFT_MSG_NEWGEN
_PROC_PID, _PROC_NAME = 2, 3  # NFTA_GEN_PROC_*
_TYPE, _PORT = 4, 12  # offsets in struct nlmsghdr
_TIMER = "nftables changed"


class TableWatch:
    """Calls `restore()` after transactions of other programs: it puts tables back and returns their names."""

    def __init__(self, loop: Loop, log: Logger, restore: Callable[[], list[str]]) -> None:
        self.restored = 0  # tables that had to be put back
        self._loop = loop
        self._log = log
        self._restore = restore
        self._socket: socket.socket | None = None
        self._looked = 0  # when, ns
        self._by = ""  # who made the last transaction

    def start(self, port: int) -> None:
        """Begin to listen; `port` is the netlink port id of our own transactions, 0: there are none."""
        if not port:
            return  # the kernel has no nftables
        opened = open_netlink(NETLINK_NETFILTER)
        attach(opened, assemble(_program(port)))  # first, or other messages could be queued before it
        opened.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        self._socket = opened
        self._loop.add_reader(opened.fileno(), self._readable)

    def close(self) -> None:
        """Stop listening."""
        self._loop.call_at(_TIMER, None)
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _readable(self) -> None:
        """Look at the tables. The next look comes after a PAUSE, and until then nobody reads the socket."""
        assert self._socket is not None
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_at(_TIMER, max(self._loop.now(), self._looked + PAUSE), self._look)

    def _look(self, now: int) -> None:
        self._looked = now
        assert self._socket is not None
        self._drain(self._socket)
        try:
            restored = self._restore()
        except OSError as error:
            self._log.limited("nftables", "error", f"nftables cannot be read: {error.strerror}")
            restored = []
        for name in restored:
            self.restored += 1
            text = f"{name} was changed by {self._by or 'another program'}: it is put back"
            self._log.limited(("nftables", name), "warning", text)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def _drain(self, heard: socket.socket) -> None:
        while True:
            try:
                datagram = heard.recv(4096)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            for _, _, _, body in messages(datagram):
                found = attributes(body, 4)
                name = found.get(_PROC_NAME, b"").rstrip(b"\0").decode(errors="replace")
                number = int.from_bytes(found.get(_PROC_PID, b""), "big")
                self._by = f"{name} (process {number})" if name else ""


def _program(port: int) -> Program:
    return [
        ("", (LD_H_ABS, _TYPE, "", "")),
        ("", (JEQ, swap16(_NEWGEN), "", "drop")),
        ("", (LD_W_ABS, _PORT, "", "")),
        ("", (JEQ, swap32(port), "drop", "")),
        ("", (RET, ALL, "", "")),
        ("drop", (RET, 0, "", "")),
    ]
