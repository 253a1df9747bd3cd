# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's part in `tandem doctor`: it gets the other routers' facts and sends this router's.

When a peer asks over the authenticated channel, the daemon starts `tandem doctor --facts`, one at a time, and
sends its output, unread. While no peer asks, this costs nothing.

A message on the topic is one byte and its value:

    ?  seconds         asks for the facts, after listening for so long (ASCII digits)
    +  part            some bytes of the facts; more follows
    .  clock | part    the last bytes; before them the router's time of day, a double in seconds
"""

from __future__ import annotations

import os
import struct
import time

from tandem import files
from tandem.channel.topics import DATA_MAX
from tandem.core.timers import SECOND
from tandem.effects.process import Processes
from tandem.programs import own_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.effects.process import Exit
    from tandem.log import Logger
    from tandem.loop import Loop

    Reply = Callable[[dict[str, object]], None]

TOPIC = "doctor"
COLLECT_TIMEOUT = 40 * SECOND  # Python starts on a small router, and listens
ANSWER_TIMEOUT = 45 * SECOND
PAUSE = 2 * SECOND  # between two collections
LISTEN_S = range(1, 31)
FACTS_MAX = 256 * 1024  # bytes, packed

_ASK, _MORE, _LAST = b"?", b"+", b"."
_CLOCK = struct.Struct("!d")


class Exchange:
    """The subscriber of the topic.

    `send(peer, data)` sends a message; `config` and `control` are the daemon's own, for the child.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        send: Callable[[str, bytes], bool],
        package_dir: str,
        config: str,
        control: str,
    ) -> None:
        self._send = send
        self._loop = loop
        self._log = log
        self._path = os.path.join(os.path.dirname(control) or ".", f"{os.path.basename(control)}.facts")
        arguments = ["doctor", "--facts", self._path, "-c", config, "--control", control]
        self._argv = own_command(package_dir, *arguments)
        self._processes: Processes | None = None
        self._askers: list[str] = []  # peers that wait for this router's facts
        self._seconds = ""  # how long this router listens for its facts
        self._free_at = 0
        self._closed = False
        self._present: set[str] = set()  # peers with a session
        self._parts: dict[str, bytes] = {}  # the parts that each asked peer has sent so far
        self._answers: dict[str, tuple[float, bytes]] = {}
        self._replies: list[Reply] = []

    # Events of the channel

    def peer_opened(self, peer: str) -> None:
        """Note that the peer has a session and can be asked."""
        self._present.add(peer)

    def peer_closed(self, peer: str) -> None:
        """Note that the session has ended: no answer will come."""
        self._present.discard(peer)
        if peer in self._askers:
            self._askers.remove(peer)
        if self._parts.pop(peer, None) is not None:
            self._finish()

    def received(self, peer: str, data: bytes) -> None:
        """Take a message of a peer."""
        kind, rest = data[:1], data[1:]
        if kind == _ASK:
            self._collect(peer, rest)
        elif peer not in self._parts:
            return  # not asked, or too late
        elif kind == _MORE and len(self._parts[peer]) + len(rest) <= FACTS_MAX:
            self._parts[peer] += rest
        elif kind == _LAST and len(rest) >= _CLOCK.size:
            facts = self._parts.pop(peer) + rest[_CLOCK.size :]
            self._answers[peer] = _CLOCK.unpack_from(rest)[0] - time.time(), facts
            self._finish()
        else:
            del self._parts[peer]
            self._finish()

    # Asking

    def examine(self, seconds: str, reply: Reply) -> None:
        """Get the facts of all peers: {name: [seconds that its clock is ahead, packed facts in hex]}.

        A peer that does not answer is missing. Each peer listens for `seconds` ("1" to "30").
        """
        self._replies.append(reply)
        if len(self._replies) > 1:
            return
        self._answers.clear()
        self._parts = {peer: b"" for peer in self._present if self._send(peer, _ASK + seconds.encode())}
        self._loop.call_at(("doctor", "answers"), self._loop.now() + ANSWER_TIMEOUT, self._expired)
        self._finish()

    def _expired(self, now: int) -> None:
        self._parts.clear()
        self._finish()

    def _finish(self) -> None:
        """Reply when no peer is left that might answer."""
        if self._parts or not self._replies:
            return
        self._loop.call_at(("doctor", "answers"), None)
        answers = {peer: [ahead, facts.hex()] for peer, (ahead, facts) in self._answers.items()}
        self._answers.clear()
        replies, self._replies = self._replies, []
        for reply in replies:
            reply({"ok": True, "result": answers})

    # Answering

    def _collect(self, peer: str, seconds: bytes) -> None:
        if self._closed or peer in self._askers:
            return
        self._askers.append(peer)
        self._seconds = seconds.decode() if seconds.isdigit() and int(seconds[:3]) in LISTEN_S else "4"
        if len(self._askers) == 1:
            self._loop.call_at(("doctor", "collect"), max(self._loop.now(), self._free_at), self._start)

    def _start(self, now: int) -> None:
        if self._processes is None:
            self._processes = Processes(self._loop, self._log, limit=1)
        argv = [*self._argv, "--listen", self._seconds]
        if self._processes.start(argv, COLLECT_TIMEOUT, self._collected) is None:
            self._tell(b"")

    def _collected(self, ended: Exit) -> None:
        self._free_at = self._loop.now() + PAUSE
        facts = b""
        try:
            facts = files.read(self._path, FACTS_MAX)  # on a RAM disk
            os.unlink(self._path)
        except OSError:
            pass
        if not ended.ok:
            self._log.limited(("doctor", str(ended)), "warning", f"tandem doctor for a peer: {ended}")
        self._tell(facts)

    def _tell(self, facts: bytes) -> None:
        askers, self._askers = self._askers, []
        room = DATA_MAX - 64
        parts = [facts[start : start + room] for start in range(0, len(facts), room)] or [b""]
        for peer in askers:
            for part in parts[:-1]:
                self._send(peer, _MORE + part)
            self._send(peer, _LAST + _CLOCK.pack(time.time()) + parts[-1])

    def close(self) -> None:
        """End the running collection, and start no other one though messages still come."""
        self._closed = True
        self._loop.call_at(("doctor", "collect"), None)
        self._loop.call_at(("doctor", "answers"), None)
        if self._processes is not None:
            self._processes.close()
