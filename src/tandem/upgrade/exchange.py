# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's part in `tandem upgrade`: it passes orders to the peer, and starts a process for the peer's.

A peer may order four jobs and nothing else (`order`), and only with `option allow_upgrade` and a secret: the
hello says so by the capability UPGRADES. The daemon does not read the report, which it sends to the asker.

A message on the topic is one byte and its value:

    ?  order           asks for the report of the last job; an order that is not empty is to be done first
    =  pid | report    the process of the daemon, 4 bytes, and the report (report.py)
"""

from __future__ import annotations

import os
import struct

from tandem import files
from tandem.core.timers import SECOND
from tandem.effects.process import Processes
from tandem.programs import own_command
from tandem.upgrade.order import REPORT_MAX, parse_order, report_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.effects.process import Exit
    from tandem.log import Logger
    from tandem.loop import Loop

    Reply = Callable[[dict[str, object]], None]

TOPIC = "upgrade"
ANSWER_TIMEOUT = 5 * SECOND
JOB_TIMEOUT = 1200 * SECOND  # longer than any job's own limits

_ASK, _ANSWER = b"?", b"="
_PID = struct.Struct("!I")


def job_argv(package_dir: str, control: str, order: str, by: str) -> list[str]:
    """Return the command that does a job on this router."""
    return own_command(package_dir, "upgrade", "--job", order, "--by", by, "--control", control)


class Exchange:
    """The subscriber of the topic.

    `send(peer, data)` sends a message, `permits(peer)` says whether this peer's orders are obeyed here.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        send: Callable[[str, bytes], bool],
        permits: Callable[[str], bool],
        package_dir: str,
        control: str,
    ) -> None:
        self._loop = loop
        self._log = log
        self._send = send
        self._permits = permits
        self._package_dir = package_dir
        self._control = control
        self._processes: Processes | None = None
        self._last = ""  # the order that was obeyed last
        self._waiting: dict[str, list[Reply]] = {}  # by the peer that was asked

    # Events of the channel

    def peer_opened(self, peer: str) -> None:
        """Say nothing: an upgrade is rare, and its asker asks."""

    def peer_closed(self, peer: str) -> None:
        """Tell those who wait that no answer will come."""
        self._refuse(peer, f"{peer} does not answer: the session has ended")

    def received(self, peer: str, data: bytes) -> None:
        """Take a message of a peer."""
        kind, rest = data[:1], data[1:]
        if kind == _ASK and self._permits(peer):
            self._obey(peer, rest.decode("ascii", "replace"))
            self._send(peer, _ANSWER + _PID.pack(os.getpid()) + self._report())
        elif kind == _ANSWER and _PID.size < len(data) <= _PID.size + 1 + REPORT_MAX:
            report = rest[_PID.size :].decode("utf-8", "replace")
            self._answer(peer, {"ok": True, "result": {"pid": _PID.unpack_from(rest)[0], "report": report}})

    # Asking

    def ask(self, peer: str, order: str, reply: Reply) -> None:
        """Get the report of a peer, which first begins the job of the order; an order has no effect twice."""
        self._waiting.setdefault(peer, []).append(reply)
        until = self._loop.now() + ANSWER_TIMEOUT
        self._loop.call_at(
            ("upgrade", peer), until, lambda _now: self._refuse(peer, f"{peer} does not answer")
        )
        if not self._send(peer, _ASK + order.encode("ascii", "replace")):
            self._refuse(peer, f"{peer} can't be reached")

    def _refuse(self, peer: str, error: str) -> None:
        self._answer(peer, {"ok": False, "error": error})

    def _answer(self, peer: str, response: dict[str, object]) -> None:
        self._loop.call_at(("upgrade", peer), None)
        for reply in self._waiting.pop(peer, ()):
            reply(response)

    # Obeying

    def _obey(self, peer: str, order: str) -> None:
        if order == self._last or parse_order(order) is None:
            return
        if self._processes is None:
            self._processes = Processes(self._loop, self._log, limit=1)
        if len(self._processes):
            return  # the asker sends its order again
        self._log.info(f"upgrade: {peer} has ordered {order.partition(':')[0]}")
        argv = job_argv(self._package_dir, self._control, order, f"tandem upgrade on {peer}")
        # It ends this daemon, maybe, and must go on.
        if self._processes.start(argv, JOB_TIMEOUT, self._ended, outlives=True) is not None:
            self._last = order

    def _ended(self, ended: Exit) -> None:
        if not ended.ok:
            self._log.warning(f"upgrade: {self._last.partition(':')[0]} failed: {ended}")

    def _report(self) -> bytes:
        try:
            return files.read(report_file(self._control), REPORT_MAX)  # on a RAM disk
        except OSError:
            return b""
