# SPDX-License-Identifier: GPL-2.0-or-later
"""DHCP follows the role: every router's dnsmasq knows every lease before it may answer.

    MASTER   dnsmasq writes its lease file -> the changes -> every peer
    BACKUP   a peer's lease -> LeaseTable -> the lease file is replaced, dnsmasq restarted

dnsmasq reads its lease file only when it starts. Nobody hears a backup's dnsmasq (see effects/guard.py), so
the daemon can restart it without haste after the MASTER has granted a lease; becoming MASTER then needs no
restart. A router that becomes MASTER before this restart is kept silent until dnsmasq has restarted, for
`PATIENCE` at most. A lease that was only prolonged causes no restart until dnsmasq would forget it.
"""

from __future__ import annotations

import os
import socket
import time

from tandem import files
from tandem.core.timers import MILLISECOND, SECOND
from tandem.dhcp.exchange import Exchange
from tandem.dhcp.lease import Lease, file_line, read_file
from tandem.dhcp.lease_file import LeaseFile
from tandem.dhcp.table import SLACK, LeaseTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tandem.config.schema import DhcpGateway
    from tandem.dhcp.restart import Restarts
    from tandem.effects.guard import Guard
    from tandem.effects.process import Exit
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import LeasePlan
    from tandem.status_schema import Dhcp

_LARGEST = 1 << 20  # bytes of a file that is rewritten
LOOK = 5 * SECOND  # between two checks of the clock, and of changes that inotify did not report
PATIENCE = 10 * SECOND  # a new MASTER is silent for at most this time until its dnsmasq knows all leases
AHEAD = 60  # s before dnsmasq would forget a lease that was prolonged
JUMP = 30  # s; after a larger step of the wall clock, leases that dnsmasq forgets are not released
LAST_WORD = SECOND  # after giving up the role, for leases that dnsmasq had granted before
RETRY, RETRY_MAX = 10 * SECOND, 300 * SECOND


class Gateway:
    """The leases of one router."""

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        settings: DhcpGateway,
        plan: LeasePlan,
        guard: Guard,
        dnsmasq: Restarts,
    ) -> None:
        self.exchange = Exchange(log, self)
        self._loop = loop
        self._log = log
        self._settings = settings
        self._plan = plan
        self._guard = guard
        self._table = LeaseTable()
        self._file = LeaseFile(loop, plan.leasefile, self._read)
        self._dnsmasq = dnsmasq
        self._known: dict[str, Lease] = {}  # the leases in dnsmasq's file, at the last look
        self._others: list[str] = []  # lines in the file that are no leases
        self._offset = self._wall_offset()
        self._said: dict[str, Lease] = {}  # leases in the replaced file, to which dnsmasq still writes
        self._said_offset = 0
        self._masters: dict[str, int] = {}  # when each instance that is MASTER became it
        self._left: dict[str, int] = {}  # former MASTERs; until when their last grants count
        self._unread = False  # dnsmasq must be restarted, even if the table is unchanged
        self._since: int | None = None  # when the need for a restart was first seen
        self._running = False
        self._failed = 0  # failed restarts in a row
        self._not_before = 0
        self._over = False
        self.restarts = 0
        self.problem = ""

    # Life

    def start(self, masters: Iterable[str]) -> None:
        """Read dnsmasq's file and begin; these instances are MASTER already."""
        self._over = False
        self._masters = dict.fromkeys(masters, self._loop.now() - PATIENCE)
        self._unread = self._prepare()
        self._file.start()
        self._read()
        self._tick(self._loop.now())

    def stop(self) -> None:
        """Stop, and leave the guard: a router that is not MASTER stays silent, also without a daemon."""
        self._end()

    def release(self) -> None:
        """Stop, because DHCP no longer follows the role, and give dnsmasq its own configuration back."""
        self._end()
        path, sections = self._plan.snippet[0], self._plan.force
        try:
            os.unlink(path)
            if self._plan.state_dir and sections:
                path = f"{self._plan.state_dir}/dhcp"
                _write(path, without_forced(_content(path) or "", sections))
        except FileNotFoundError:
            pass
        except OSError as error:
            self._log.error(f"dhcp: can't take back {path}: {error.strerror}")
        timeout = self._settings.restart_timeout_ms * MILLISECOND
        self._dnsmasq.run(self._settings.restart, timeout, lambda _result: None)

    def _end(self) -> None:
        self._over = True  # events that still come are ignored
        for key in ("dhcp tick", "dhcp restart"):
            self._loop.call_at(key, None)
        self._file.stop()

    def role(self, instance: str, state: str) -> None:
        """Follow an instance that has changed its state."""
        if instance not in self._plan.networks:
            return
        if state == "MASTER":
            self._masters[instance] = self._loop.now()
            self._not_before = 0  # a failed restart may be tried again at once
        elif self._masters.pop(instance, None) is not None:
            self._left[instance] = self._loop.now() + LAST_WORD
            self._read()
        self._evaluate()

    def _prepare(self) -> bool:
        """Write the files that make dnsmasq follow the role; return whether one of them has changed."""
        changed = False
        snippet, text = self._plan.snippet
        paths = [snippet]
        if self._plan.state_dir and self._plan.force:
            paths.append(f"{self._plan.state_dir}/dhcp")
        for path in paths:
            try:
                before = _content(path)
                if path != snippet:
                    text = _with_forced(before or "", self._plan.force)
                if before != text:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    _write(path, text)
                    changed = True
            except OSError as error:
                self._log.error(f"dhcp: can't write {path}: {error.strerror}")
        return changed

    # dnsmasq's file

    def _read(self) -> None:
        try:
            text = self._file.read()
        except OSError as error:
            self._log.limited("dhcp file", "error", f"dhcp: {self._file.path}: {error.strerror or error}")
            return
        if text is None:
            self._file.again()
            return
        first = not self._known and not self._others
        offset = self._wall_offset()
        found, self._others = read_file(text, offset)
        # An unchanged line is no news, though after a change of the clock its time means another moment.
        before = {address: lease.shifted(self._offset - offset) for address, lease in self._known.items()}
        jumped = self._clock_was_set()
        self._news(before, found, first, jumped)
        self._unread |= jumped
        self._offset = offset
        self._known = found
        self._evaluate()

    def _news(self, before: dict[str, Lease], found: dict[str, Lease], first: bool, jumped: bool) -> None:
        """Take what dnsmasq has changed between two looks at its file."""
        now = self.now()
        changed: list[str] = []
        for address, lease in found.items():
            old = before.get(address)
            if lease == old or lease.left(now) <= 0:
                continue
            if self.grants(address):
                changed += self._table.take(lease, now)
            elif first and self.shared(address):
                self._table.offer(lease, now)
        for address, old in before.items():
            if address in found or not self.grants(address):
                continue
            known = self._table.leases.get(address)
            # dnsmasq forgets a lease at the end that it knows; the lease may have been prolonged since.
            ended = jumped or (old.left(now) <= SLACK and known is not None and known.left(now) > SLACK)
            if not ended:
                changed += self._table.remove(address, now)
        if changed:
            self.exchange.tell(changed)

    def _replace(self) -> bool:
        """Write the table into the file; return whether this succeeded."""
        now, offset = self.now(), self._wall_offset()
        ours = {a: lease for a, lease in self._table.leases.items() if lease.left(now) > 0}
        foreign = {a: lease for a, lease in self._known.items() if a not in ours and self._foreign(a)}
        lines = [file_line(lease, offset) for lease in (*foreign.values(), *ours.values())]
        if not self._file.has_before:
            self._said, self._said_offset = self._known, self._offset
        try:
            self._file.replace("".join(f"{line}\n" for line in (*lines, *self._others)))
        except OSError as error:
            self._trouble(f"can't write {self._file.path}: {error.strerror or error}")
            return False
        self._known, self._offset = foreign | ours, offset
        return True

    # Restarts

    def _evaluate(self) -> None:
        """Decide whether and when dnsmasq is restarted, and which instances must be silent until then."""
        if self._over:
            return
        now = self._loop.now()
        urgent, later = self._needs()
        if urgent or self._running:
            self._since = now if self._since is None else self._since
        else:
            self._since = None
        patient = [
            name
            for name in self._plan.networks
            if name not in self._masters or now < self._masters[name] + PATIENCE
        ]
        self._guard.delay(patient if self._since is not None else ())
        if self._running:
            return
        due: int | None = None
        if self._since is not None:
            fresh = any(now < since + PATIENCE for since in self._masters.values())
            due = now if fresh else self._since + self._settings.restart_delay_ms * MILLISECOND
        elif later is not None:
            due = now + max(0, later - self.now()) * SECOND
        if due is not None:
            due = max(due, self._not_before)
        self._loop.call_at("dhcp restart", due, self._restart)

    def _needs(self) -> tuple[bool, int | None]:
        """Return whether dnsmasq lacks something, or until when (s) its present leases are enough."""
        now = self.now()
        if self._unread:
            return True, None
        later: int | None = None
        for address, lease in self._table.leases.items():
            known = self._known.get(address)
            if lease.left(now) <= SLACK:
                continue
            if known is None or not lease.same(known):
                return True, None
            if known.expires is not None and lease.left(now) > known.left(now) + SLACK:
                when = known.expires - AHEAD
                later = when if later is None else min(later, when)
        for address, known in self._known.items():
            if address not in self._table.leases and not self._foreign(address) and known.left(now) > SLACK:
                return True, None
        return False, later

    def _restart(self, _now: int) -> None:
        if self._running or not self._replace():
            return
        self._unread = True  # until the command has done its work
        timeout = self._settings.restart_timeout_ms * MILLISECOND
        if not self._dnsmasq.run(self._settings.restart, timeout, self._restarted):
            self._trouble("dnsmasq can't be restarted")
            return
        self._running = True
        self.restarts += 1

    def _restarted(self, result: Exit) -> None:
        self._running = False
        if self._over:
            return
        self._last_words()
        if not result.ok:
            self._trouble(f"{' '.join(self._settings.restart)}: {result}")
            self._evaluate()
            return
        if self.problem:
            self._log.info("dhcp: dnsmasq is restarted at last")
        self._unread = False
        self._failed, self._not_before, self.problem, self._since = 0, 0, "", None
        self._file.forget()
        self._read()

    def _last_words(self) -> None:
        """Take the leases that the former dnsmasq granted after its file was replaced."""
        if text := self._file.before():
            now, offset = self.now(), self._wall_offset()
            before = {a: lease.shifted(self._said_offset - offset) for a, lease in self._said.items()}
            self._said, _ = read_file(text, offset)
            self._said_offset = offset
            for address, lease in self._said.items():
                if lease != before.get(address) and self.grants(address):
                    self.exchange.tell(self._table.offer(lease, now))

    def _trouble(self, what: str) -> None:
        self.problem = what
        self._failed += 1
        self._not_before = self._loop.now() + min(RETRY << min(self._failed - 1, 8), RETRY_MAX)
        self._unread = True
        self._log.limited("dhcp restart", "error", f"dhcp: {what}")
        self._loop.call_at("dhcp restart", self._not_before, self._restart)

    # Peers

    def leases(self) -> Iterable[Lease]:
        """Return all known leases, for a peer that has come."""
        return self._table.leases.values()

    def lease(self, address: str) -> Lease | None:
        """Return the lease of `address`, or None."""
        return self._table.leases.get(address)

    def heard(self, lease: Lease, decided: bool) -> None:
        """Take a lease from a peer; `decided`: the peer is MASTER of the lease's network."""
        if not self.shared(lease.address):
            return
        if decided and not self._decides(lease.address):
            self._table.take(lease, self.now())
        else:
            self._table.offer(lease, self.now())

    def heard_released(self, address: str) -> None:
        """Remove a lease that was released, as the peer says that is MASTER of the network."""
        if not self._decides(address):
            self._table.remove(address, self.now())

    def heard_all(self) -> None:
        """Act on the leases of a message that has been read to its end."""
        self._evaluate()

    def shared(self, address: str) -> bool:
        """Return whether an address is in a network that the routers share."""
        return bool(self._instances(address))

    def _foreign(self, address: str) -> bool:
        """Return whether dnsmasq may have this lease alone: another network's, or the table is full."""
        return self._table.full or not self.shared(address)

    def grants(self, address: str) -> bool:
        """Return whether this router decided the lease, as MASTER or just before it gave up the role."""
        now = self._loop.now()
        return self._decides(address) or any(
            now < self._left.get(name, 0) for name in self._instances(address)
        )

    def _decides(self, address: str) -> bool:
        return any(name in self._masters for name in self._instances(address))

    def _instances(self, address: str) -> list[str]:
        family, number = _number(address)
        return [
            name
            for name, networks in self._plan.networks.items()
            if any(family == kind and number & mask == network for kind, network, mask in networks)
        ]

    # Time

    def _tick(self, now: int) -> None:
        self._loop.call_at("dhcp tick", now + LOOK, self._tick)
        self._table.expire(self.now())
        self._unread |= self._clock_was_set()
        self._file.look()
        self._guard.refresh()  # restores a table that somebody flushed, whatever address_lifetime is
        for failure in self._guard.failures:
            self._log.limited("dhcp guard", "error", f"dhcp: {failure}")
        self.exchange.again()
        self._evaluate()

    def now(self) -> int:
        """Return the seconds of the monotonic clock."""
        return self._loop.now() // SECOND

    def _clock_was_set(self) -> bool:
        """Return whether the wall clock was set: dnsmasq then takes leases for ended, or for endless."""
        return abs(self._wall_offset() - self._offset) > JUMP

    def _wall_offset(self) -> int:
        return int(time.time()) - self.now()

    # For people

    @property
    def trouble(self) -> str:
        """Return the reason why DHCP can't follow the role; "": it can."""
        return self.problem or "; ".join(str(failure) for failure in self._guard.failures)

    def status(self) -> Dhcp:
        """Return the part of `tandem status` about DHCP."""
        return {
            "leases": len(self._table),
            "answering": sorted(self._guard.answering),
            "waiting": self._since is not None,
            "restarts": self.restarts,
            "refused": self._table.refused,
            "problem": self.trouble,
            **self.exchange.status(),
        }


def _number(address: str) -> tuple[int, int]:
    family, kind = (6, socket.AF_INET6) if ":" in address else (4, socket.AF_INET)
    return family, int.from_bytes(socket.inet_pton(kind, address), "big")


def _content(path: str) -> str | None:
    """Return the text of a file; None: there is no file. OSError."""
    try:
        return files.read(path, _LARGEST).decode(errors="surrogateescape")
    except FileNotFoundError:
        return None


def _write(path: str, text: str) -> None:
    files.replace(path, text.encode(errors="surrogateescape"))


def _with_forced(text: str, sections: Iterable[str]) -> str:
    """Return UCI's overlay with `force` set in these sections of `dhcp`; its other lines stay."""
    wanted = [_forced(name) for name in sections]
    lines = text.splitlines()
    return "".join(f"{line}\n" for line in (*lines, *(one for one in wanted if one not in lines)))


def without_forced(text: str, sections: Iterable[str]) -> str:
    """Return the overlay without the lines that `_with_forced` has added."""
    ours = [_forced(name) for name in sections]
    return "".join(f"{line}\n" for line in text.splitlines() if line not in ours)


def _forced(section: str) -> str:
    return f"dhcp.{section}.force='1'"
