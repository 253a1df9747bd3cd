# SPDX-License-Identifier: GPL-2.0-or-later
"""Going on with a session of PPPoE that another router has left open, in the place of a dial.

netifd starts pppd as ever. pppd's plugin reads /etc/ppp/options.DEVICE before it connects (pppd(8); plugin.c,
PPPOEDeviceOptions), and DEVICE is Tandem's own. There, `rp_pppoe_sess` makes the plugin leave out discovery
(RFC 2516 section 5) and use this session. pppd then negotiates anew within the session, which RFC 1661 wants
of both ends at any time (section 4.1, event RCR+ in the state Opened): link, account, address. When that
fails, pppd ends, netifd starts it again, and by then the file is gone, so that pppd dials.

The file is a link into /var/run, made once: a takeover writes nothing to the flash memory, and a boot knows
of no session.
"""

from __future__ import annotations

import ctypes
import os
import struct

from tandem import files
from tandem.core.follow import State
from tandem.core.lease import Session
from tandem.core.open_session import Attempt, OpenSession, Outcome
from tandem.core.timers import MILLISECOND
from tandem.follow import session as sessions
from tandem.follow.device import sessions as kernel_sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.core.lease import AnyLease
    from tandem.log import Logger
    from tandem.loop import Loop

PPPD = "/etc/ppp"  # pppd's directory
VOLATILE = "/var/run/tandem"
LOOK_EVERY = 100 * MILLISECOND
# pppd asks twice: a concentrator that does not know the session any more says nothing. pppd must not try this
# session again, also where the user's options are `persist`.
_OPTIONS = "rp_pppoe_sess {0.id}:{0.concentrator}\nnopersist\nlcp-restart 1\nlcp-max-configure 2\n"
_IN_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # IN_NONBLOCK, IN_CLOEXEC: include/uapi/linux/inotify.h
_IN_CLOSE_NOWRITE = 0x10  # likewise: somebody has read it
_EVENT = struct.Struct("=iIII")  # struct inotify_event: wd, mask, cookie, len


class Takeover:
    """The session of one network, whose device is `device`.

    `failed(stuck)` is called when the concentrator has not gone on with it. `stuck`: pppd still tries.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        network: str,
        device: str,
        peers: set[str],
        failed: Callable[[bool], None],
    ) -> None:
        self.open = OpenSession(peers)
        self.problem: str | None = None  # why no session can be taken over
        self._loop = loop
        self._log = log
        self._network = network
        self._device = device
        self._failed = failed
        self._file = f"{VOLATILE}/{device}.session"
        self._link = f"{PPPD}/options.{device}"
        self._attempt: Attempt | None = None
        self._session: Session | None = None
        self._inotify = -1
        self._libc = ctypes.CDLL(None, use_errno=True)

    def prepare(self) -> None:
        """Make the link; `problem` says why that is not possible."""
        self.problem = None
        if self._attempt is None:
            self._forget_file()  # of a daemon that died
        try:
            if not self.ready:
                os.symlink(self._file, self._link)
        except FileExistsError:
            self.problem = f"{self._link} is another file: remove it, so that the session can be taken over"
        except OSError as error:
            self.problem = f"{self._link}: {error.strerror}"

    def close(self) -> None:
        """Take back what `prepare` has made."""
        self.end()
        try:
            if self.ready:
                os.unlink(self._link)
        except OSError:
            pass

    @property
    def ready(self) -> bool:
        """Whether pppd would read the file: `prepare` has made the link."""
        try:
            return os.readlink(self._link) == self._file
        except OSError:
            return False

    def usable(self, lease: AnyLease | None, now: int) -> bool:
        """Whether this router may go on with the session that is known."""
        known = isinstance(lease, Session) and lease.open
        return known and self.open.usable(now) and self.ready

    def leaves_open(self, state: State) -> bool:
        """Whether the session stays for another router, or for this one if it comes back soon."""
        now = self._loop.now()
        wanted = self.open.wanted(now)
        if wanted and state is State.BOUND:
            self.open.left(now)
        return wanted

    def begin(self, session: Session) -> bool:
        """Have the pppd that netifd starts next go on with the session.

        Return whether pppd has it still, because the role has come back before the device was deleted.
        """
        self.end()
        now = self._loop.now()
        self._attempt, self._session = Attempt(now), session
        if sessions.listed(session, self._device, kernel_sessions()):
            self._attempt.read(now)
            self._loop.call_at(("takeover", self._network), now + LOOK_EVERY, self._look)
            return True
        try:
            os.makedirs(VOLATILE, 0o700, exist_ok=True)
            files.replace(self._file, _OPTIONS.format(session).encode(), 0o600)
            self._watch()
        except OSError as error:
            self._log.limited(("takeover", self._network), "warning", f"{self._network}: {error}")
            self._loop.call_at(("takeover", self._network), now, lambda _now: self._give_up(Outcome.UNREAD))
            return False
        self._log.info(f"{self._network}: pppd goes on with session {session.id} of {session.concentrator}")
        self._loop.call_at(("takeover", self._network), now + LOOK_EVERY, self._look)
        return False

    def end(self) -> None:
        """The attempt is over; a pppd that starts from now on dials."""
        self._forget_file()
        self._loop.call_at(("takeover", self._network), None)
        self._attempt = self._session = None

    def _watch(self) -> None:
        """Hear of it when pppd has read the file. OSError: the kernel has no more watches."""
        path = os.fsencode(self._file)
        self._inotify = self._libc.inotify_init1(_IN_FLAGS)
        if self._inotify >= 0:
            self._loop.add_reader(self._inotify, self._read)
        if self._inotify < 0 or self._libc.inotify_add_watch(self._inotify, path, _IN_CLOSE_NOWRITE) < 0:
            raise OSError(ctypes.get_errno(), "inotify: " + os.strerror(ctypes.get_errno()))

    def _read(self) -> None:
        """pppd has read the file: another one must not."""
        data = os.read(self._inotify, 4096)
        if len(data) >= _EVENT.size and _EVENT.unpack_from(data)[1] & _IN_CLOSE_NOWRITE:
            self._forget_file()
            if self._attempt is not None:
                self._attempt.read(self._loop.now())

    def _forget_file(self) -> None:
        if self._inotify >= 0:
            self._loop.remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = -1
        try:
            os.unlink(self._file)
        except OSError:
            pass

    def _look(self, now: int) -> None:
        if self._attempt is None or self._session is None:
            return
        outcome = self._attempt.look(sessions.listed(self._session, self._device, kernel_sessions()), now)
        if outcome is not None:
            self._give_up(outcome)
        else:
            self._loop.call_at(("takeover", self._network), now + LOOK_EVERY, self._look)

    def _give_up(self, outcome: Outcome) -> None:
        assert self._session is not None  # there is an attempt
        number = self._session.id
        self.end()
        self._log.warning(f"{self._network}: session {number} does not go on ({outcome.value}): pppd dials")
        self._failed(outcome is Outcome.STUCK)
