# SPDX-License-Identifier: GPL-2.0-or-later
"""One run of the doctor: collects the facts of this router and of the others, and checks them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from tandem import files
from tandem.console import DONE
from tandem.control.client import ControlError, ask
from tandem.doctor.checks_pair import compare
from tandem.doctor.checks_router import examine
from tandem.doctor.collect import collect
from tandem.doctor.facts import RouterFacts, decode, encode
from tandem.doctor.finding import Finding
from tandem.doctor.listen import Ears

ANSWER_TIMEOUT_S = 50.0  # the daemon gives up after 45 s


@dataclass(slots=True)
class Visit:
    """The findings of a run, and its notes."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # facts that could not be examined


def facts_of_this_router(config_file: str, control: str, listen_s: int, path: str) -> int:
    """Write this router's facts to a file, for the other router's doctor."""
    router, _ = _listen(config_file, control, listen_s, _Question(None, listen_s))
    files.replace(path, encode(router), 0o600)
    return DONE


def visit(config_file: str, control: str, listen_s: int) -> Visit:
    """Examine this router and all peers that it can ask; all listen for `listen_s` seconds."""
    found = Visit()
    question = _Question(control, listen_s)
    router, found.notes = _listen(config_file, control, listen_s, question)
    found.findings = examine(router)
    answers = question.routers()
    if router.daemon and not router.sync and not answers:
        found.notes.append("there is no channel to the other router (config peer): run the doctor there too")
    for name in dict.fromkeys((*(link.name for link in router.links if link.up), *answers)):
        other = answers.get(name)
        if other is None:
            found.notes.append(f"{name} did not tell its facts: run the doctor there too")
            continue
        other = replace(
            other, clock=router.clock + question.ahead[name], name=_apart(other.name, router.name, name)
        )
        found.findings += examine(other)
        found.findings += compare(router, other)
    return found


def _apart(name: str, ours: str, peer: str) -> str:
    """Return a name for the other router that differs from ours."""
    return f"{name} ({peer})" if name == ours else name


def _listen(
    config_file: str, control: str, listen_s: int, question: _Question
) -> tuple[RouterFacts, list[str]]:
    router, config = collect(config_file, control)
    ears = Ears(config, router)
    try:
        ears.open()
        question.ask()
        ears.run(listen_s, lambda: question.answered)
        return replace(ears.facts(), clock=time.time()), ears.problems
    finally:
        ears.close()


class _Question:
    """Asks the daemon for the other routers' facts, while this router listens; the others listen as long."""

    def __init__(self, control: str | None, listen_s: int) -> None:
        self.ahead: dict[str, float] = {}  # how far each peer's clock is ahead, in seconds
        self._control = control
        self._listen_s = str(listen_s)
        self._answers: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._asked = False

    def ask(self) -> None:
        """Ask in a thread, and return at once."""
        if self._control is not None:
            self._asked = True
            self._thread.start()

    @property
    def answered(self) -> bool:
        """Return whether there is nothing to wait for."""
        return not (self._asked and self._thread.is_alive())

    def routers(self) -> dict[str, RouterFacts]:
        """Return the facts of the peers that answered, by name."""
        found = {}
        for name, answer in self._answers.items():
            try:
                ahead, packed = answer
                self.ahead[name] = float(ahead)
                found[str(name)] = decode(bytes.fromhex(packed))
            except (ValueError, TypeError):
                continue
        return found

    def _run(self) -> None:
        assert self._control is not None
        try:
            answers = ask(self._control, "examine", timeout_s=ANSWER_TIMEOUT_S, listen=self._listen_s)
        except ControlError:
            return
        if isinstance(answers, dict):
            self._answers = answers
