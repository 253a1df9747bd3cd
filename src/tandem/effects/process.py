# SPDX-License-Identifier: GPL-2.0-or-later
"""Child processes: started, watched and ended from the event loop, never waited for.

`os.fork` and a few lines stand in for `subprocess`, which costs 0.85 MiB and drops privileges
no faster. The daemon has one thread, so that the child may run Python. A child that is `spawned` costs a
quarter of that: the kernel copies no page tables for it. But such a child may outlive this process.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tandem.core.timers import MILLISECOND
from tandem.programs import PATH
from tandem.scheduling import leave_realtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.programs import Credentials

KILL_GRACE = 2_000 * MILLISECOND  # from SIGTERM to SIGKILL
OUTPUT_MAX = 16 * 1024  # bytes of a child's output that are kept
POLL = 20 * MILLISECOND  # how often children are looked at where the kernel has no pidfd (before 5.3)

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_NOT_EXECUTED = 127
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)  # by Python; what it handles is the default after exec anyway


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended. `status` is the exit status, or minus the signal that ended it.

    `error` says why the command could not be executed at all; `status` is then 127.
    """

    status: int
    duration: int  # ns
    timed_out: bool = False
    error: str | None = None
    output: bytes = b""  # what it has printed, if that was asked for

    @property
    def ok(self) -> bool:
        """Whether the command ran and said that all is well."""
        return self.status == 0 and not self.timed_out

    def __str__(self) -> str:
        if self.error is not None:
            return self.error
        if self.timed_out:
            return "timed out"
        if self.status < 0:
            return f"ended by {_signal_name(-self.status)}"
        return f"exit status {self.status}"


class _Child:
    """A child that has not been reaped."""

    __slots__ = (
        "adopted", "errors", "grace", "kill", "on_exit", "output", "pid", "pidfd", "started", "timed_out",
        "whole",
    )  # fmt: skip

    def __init__(
        self,
        pid: int,
        pidfd: int,
        errors: int,
        started: int,
        on_exit: Callable[[Exit], None],
        output: int,
        whole: bool,
        grace: int,
        adopted: bool = False,
    ) -> None:
        self.pid = pid
        self.adopted = adopted  # an earlier daemon has started it
        self.pidfd = pidfd  # -1: none
        self.errors = errors  # pipe: the errno of what failed before the command ran; -1: none
        self.started = started
        self.on_exit = on_exit
        self.timed_out = False
        self.kill = signal.SIGTERM  # what the next deadline sends
        self.grace = grace
        self.whole = whole  # its children end with it
        self.output = output  # a file in memory; -1: none


class Processes:
    """A bounded set of child processes. `failed_starts` counts what did not even fork or execute."""

    def __init__(self, loop: Loop, log: Logger, limit: int = 32) -> None:
        self.failed_starts = 0
        self._closed = False
        self._loop = loop
        self._log = log
        self._limit = limit
        self._children: dict[int, _Child] = {}
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._libc = ctypes.CDLL(None)
        # Descriptors that Python opens close on exec; inherited ones may not.
        for fd in os.listdir("/proc/self/fd"):
            try:
                if int(fd) > 2:
                    os.set_inheritable(int(fd), False)
            except OSError:
                pass  # the directory's own, closed by now

    def __len__(self) -> int:
        return len(self._children)

    def start(
        self,
        argv: Sequence[str],
        timeout: int,
        on_exit: Callable[[Exit], None],
        environment: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        outlives: bool = False,
        output: bool = False,
        whole: bool = False,
        grace: int = KILL_GRACE,
        spawned: bool = False,
    ) -> int | None:
        """Start `argv[0]`, an absolute path, and call `on_exit` once when it has ended.

        After `timeout` ns its process group gets SIGTERM, and SIGKILL after `grace`. Returns the
        process id; None, logged and counted, when it can't be started now: then `on_exit`
        isn't called. A file that is missing or not executable is told by `Exit.error`.
        `outlives`: it goes on when the daemon ends, which otherwise ends it too. `output`: what it prints is
        in `Exit.output`. `whole`: its process group is killed when it has ended, whatever ended it.
        `spawned`: start it by posix_spawn, without credentials and output, in the working directory and with
        the file mode mask of this process.
        """
        if len(self._children) >= self._limit:
            self._refuse(argv, f"{self._limit} other commands are running")
            return None
        started = self._loop.now()
        if spawned and (pid := self._spawn(argv, environment)):
            self._watch(_Child(pid, _pidfd(pid), -1, started, on_exit, -1, whole, grace), started + timeout)
            return pid
        arguments = [os.fsencode(argument) for argument in argv]
        variables = _environment(environment, credentials)
        try:
            errors, child_errors = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self._refuse(argv, str(error.strerror))
            return None
        printed = _memory_file() if output else -1
        # Until the child has reset its handlers, a signal would run the daemon's ones in it.
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._child(arguments, variables, credentials, child_errors, outlives, printed)
        except OSError as error:
            os.close(errors)
            if printed >= 0:
                os.close(printed)
            self._refuse(argv, str(error.strerror))
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(child_errors)
        child = _Child(pid, _pidfd(pid), errors, started, on_exit, printed, whole, grace)
        self._watch(child, started + timeout)
        return pid

    def _spawn(self, argv: Sequence[str], environment: Mapping[str, str] | None) -> int:
        """Start a program by posix_spawn; 0: that fails, and a fork tells why."""
        try:
            return os.posix_spawn(
                argv[0],
                list(argv),
                _environment(environment, None),
                file_actions=[(os.POSIX_SPAWN_DUP2, self._null, fd) for fd in (0, 1, 2)],
                setsid=True,
                setsigmask=(),
                setsigdef=_IGNORED,
            )
        except (OSError, NotImplementedError):
            return 0

    def _watch(self, child: _Child, deadline: int) -> None:
        self._children[child.pid] = child
        if child.pidfd >= 0:
            self._loop.add_reader(child.pidfd, lambda: self._reap(child))
        else:
            self._poll(child)
        self._deadline(child, deadline)

    def adopt(self, pid: int, on_exit: Callable[[Exit], None], grace: int) -> bool:
        """Watch a process that an earlier daemon has started with `whole`; False: the kernel cannot do that.

        Nobody learns how it ends, which `Exit.error` says.
        """
        if (pidfd := _pidfd(pid)) < 0:
            return False
        self._children[pid] = child = _Child(
            pid, pidfd, -1, self._loop.now(), on_exit, -1, True, grace, adopted=True
        )
        self._loop.add_reader(pidfd, lambda: self._reap(child))
        return True

    def expire(self, pid: int | None, when: int) -> None:
        """Let the timeout of `pid` be over at `when` ns; nothing when it has ended."""
        if pid is not None and (child := self._children.get(pid)):
            self._deadline(child, when)

    def kill(self) -> None:
        """End every child with SIGKILL, now. Their `on_exit` is still called."""
        for child in self._children.values():
            child.timed_out = True
            _signal_group(child.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill all children; no `on_exit` is called any more. The loop still collects them when they end."""
        self._closed = True
        self.kill()
        if not self._children:
            os.close(self._null)

    def _refuse(self, argv: Sequence[str], reason: str) -> None:
        self.failed_starts += 1
        self._log.limited(("start", argv[0], reason), "error", f"can't start {argv[0]}: {reason}")

    def _deadline(self, child: _Child, when: int) -> None:
        self._loop.call_at((id(self), child.pid), when, lambda now: self._expired(child, now))

    def _expired(self, child: _Child, now: int) -> None:
        child.timed_out = True
        _signal_group(child.pid, child.kill)
        if child.kill == signal.SIGTERM:
            child.kill = signal.SIGKILL
            self._deadline(child, now + child.grace)

    def _poll(self, child: _Child) -> None:
        self._loop.call_at((id(self), -child.pid), self._loop.now() + POLL, lambda now: self._reap(child))

    def _reap(self, child: _Child) -> None:
        try:
            done = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if done is None:
                if child.pidfd < 0:
                    self._poll(child)
                return
            if child.timed_out or child.whole:
                # Its children must end too. While the leader is a zombie, the number of its
                # group can't be anyone else's.
                _signal_group(child.pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        except ChildProcessError:  # someone else has reaped it: how it ended is lost
            if child.adopted:
                _signal_group(child.pid, signal.SIGKILL)
            status = -signal.SIGKILL
        if child.adopted:
            error: str | None = "has ended"
        else:
            error = _read_error(child.errors) if child.errors >= 0 else None
        printed = os.pread(child.output, OUTPUT_MAX, 0).rstrip(b"\0") if child.output >= 0 else b""
        del self._children[child.pid]
        self._forget(child)
        if self._closed:
            if not self._children:
                os.close(self._null)
            return
        self.failed_starts += error is not None and not child.adopted
        child.on_exit(Exit(status, self._loop.now() - child.started, child.timed_out, error, printed))

    def _forget(self, child: _Child) -> None:
        self._loop.call_at((id(self), child.pid), None)
        self._loop.call_at((id(self), -child.pid), None)
        if child.pidfd >= 0:
            self._loop.remove_reader(child.pidfd)
            os.close(child.pidfd)
        if child.errors >= 0:
            os.close(child.errors)
        if child.output >= 0:
            os.close(child.output)

    def _child(
        self,
        argv: list[bytes],
        environment: dict[str, str],
        credentials: Credentials | None,
        errors: int,
        outlives: bool,
        output: int,
    ) -> NoReturn:
        """The life of the child until the command runs; descriptors close on exec by themselves."""
        try:
            for number in signal.valid_signals():
                # Only what is ignored stays so across exec, but a handler of ours must not run before.
                if signal.getsignal(number) is not signal.SIG_DFL and number not in (
                    signal.SIGKILL,
                    signal.SIGSTOP,
                ):
                    signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.setsid()
            for fd in (0, 1, 2):
                os.dup2(output if output >= 0 and fd else self._null, fd)
            # SCHED_RESET_ON_FORK has done this, unless someone set the policy from outside (chrt).
            leave_realtime()
            if credentials is not None:
                os.setgroups(credentials.groups)
                os.setresgid(credentials.gid, credentials.gid, credentials.gid)
                os.setresuid(credentials.uid, credentials.uid, credentials.uid)
            # After setresuid, which clears it: a script must not outlive a daemon that was killed,
            # or it would run beside the scripts of the next one.
            if not outlives:
                self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            os.umask(0o022)
            os.chdir("/")
            os.execve(argv[0], argv, environment)
        except OSError as error:
            os.write(errors, b"%d" % (error.errno or errno.EINVAL))
        finally:
            os._exit(_NOT_EXECUTED)


def _environment(extra: Mapping[str, str] | None, credentials: Credentials | None) -> dict[str, str]:
    """Return an environment that holds nothing of the daemon's own."""
    environment = {"PATH": PATH}
    if credentials is not None:
        environment |= {"USER": credentials.name, "LOGNAME": credentials.name, "HOME": credentials.home}
    return {**environment, **(extra or {})}


def _memory_file() -> int:
    """Return a file for a child's output, which never blocks the child and never grows; -1: there is none.

    A daemon that an agent starts may keep it open, and print for ever: what is too much is refused.
    """
    try:
        fd = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (OSError, AttributeError):
        return -1
    os.ftruncate(fd, OUTPUT_MAX)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return -1


def _read_error(fd: int) -> str | None:
    """Return the error that the child wrote instead of running the command; None: the command ran."""
    try:
        number = os.read(fd, 16)
    except BlockingIOError:  # a descendant of a child that was killed before exec still holds it
        return None
    return f"can't be executed: {os.strerror(int(number))}" if number else None


def _signal_group(pid: int, number: int) -> None:
    """Signal the process group of a child that has not been reaped."""
    try:
        os.killpg(pid, number)
    except PermissionError:
        pass  # all that is left of the group has changed its user
    except ProcessLookupError:  # it has not reached setsid() yet
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # someone else has reaped it


def _signal_name(number: int) -> str:
    names = [name for name in vars(signal) if name.startswith("SIG") and getattr(signal, name) == number]
    return min((name for name in names if name[3] != "_"), default=f"signal {number}")
