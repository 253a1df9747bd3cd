# SPDX-License-Identifier: GPL-2.0-or-later
"""The questions of `tandem init`, fit for a serial console: plain lines, a default in brackets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TextIO

from tandem.console import printable
from tandem.setup import segment
from tandem.setup.networks import Network, Networks
from tandem.setup.pair import (
    Setup,
    SetupError,
    Shared,
    address_problem,
    peer_problem,
    plain,
    propose_address,
    propose_peer,
    share,
)

Check = Callable[[str], str | None]

_WELCOME = """\
Two routers share one gateway address for each of these networks: the active one has it, and when
that one fails the other takes it. Each router also keeps an address of its own.
Enter takes what stands in [brackets]; Ctrl-C ends, and nothing has changed.
"""


class Ended(Exception):
    """The input has ended: there are no more answers."""


class Dialogue:
    """Asks on one stream, reads the answers from another."""

    def __init__(self, answers: TextIO, out: TextIO) -> None:
        self._answers = answers
        self._out = out

    def say(self, text: str = "") -> None:
        """Print a line, or several."""
        print(text, file=self._out, flush=True)

    def ask(self, question: str, default: str, check: Check) -> str:
        """Ask until `check` finds no problem in the answer; return the answer. Raises Ended."""
        while True:
            self._out.write(f"{question} [{default}]: " if default else f"{question}: ")
            self._out.flush()
            line = self._answers.readline()
            if not line:
                raise Ended
            answer = line.strip() or default
            problem = check(answer)
            if problem is None:
                return answer
            for sentence in problem.splitlines():
                self.say(f"  {printable(sentence)}")

    def confirm(self, question: str) -> bool:
        """Ask a question and return whether the answer is yes; Enter means yes."""

        def wrong(text: str) -> str | None:
            return None if text.lower() in _YES_NO else "y or n?"

        return _YES_NO[self.ask(f"{question} (y/n)", "y", wrong).lower()]


_YES_NO = {"y": True, "yes": True, "n": False, "no": False}


def interview(dialogue: Dialogue, networks: Networks, start: Setup, *, sync: bool, look: bool) -> Setup:
    """Ask for the networks, the shared address of each, and the other router if `start` does not say it.

    `sync`: connections are to be replicated, which requires the other router's address. `look`: refuse an
    address that another host has.
    """
    if not networks.static:
        raise SetupError(no_networks(networks))
    dialogue.say(_WELCOME)
    shared = _ask_networks(dialogue, networks, look)
    peer = start.peer
    if peer is None and sync:
        where = next((one for one in shared if one.network.gateway is None), shared[0]).network
        peer = dialogue.ask(
            f"The other router's own address, in {where.name} or another network",
            propose_peer(shared),
            lambda text: peer_problem(shared, networks, text),
        ).split("/")[0]
    return replace(start, shared=shared, peer=peer)


def ask_to_track(dialogue: Dialogue, names: Sequence[str]) -> bool:
    """Ask whether a router hands over when it has lost its way out, which can't move along."""
    every = " or ".join(names)
    dialogue.say(provided(names))
    return dialogue.confirm(f"Hand the gateway over when {every} has failed here and not there?")


def ask_for_line(dialogue: Dialogue, name: str, proto: str) -> bool:
    """Ask which plan is the owner's: a line for each router, or one line for both.

    `proto` is the protocol of the network: dhcp or pppoe.
    """
    shared = (
        "both share one line and its account (PPPoE): the active router dials"
        if proto == "pppoe"
        else "both share one line with one address (DHCP), which moves to the active router"
    )
    dialogue.say(f"How are the routers connected to the provider of {name}?")
    dialogue.say("  1  each router has a line, and an address of the provider's, of its own")
    dialogue.say(f"  2  {shared}")

    def wrong(text: str) -> str | None:
        return None if text in ("1", "2") else "1 or 2"

    return dialogue.ask("Plan", "1", wrong) == "2"


def provided(names: Sequence[str]) -> str:
    """Return the warning about a way out with an address of the provider's: what a takeover breaks."""
    return f"""\
The provider's address on {" and ".join(names)} stays with its router. After a takeover, hosts use the way
out of the other router: connections to the internet break and must begin again; port forwards,
dynamic DNS and VPNs at the provider's address do not move along."""


def _ask_networks(dialogue: Dialogue, networks: Networks, look: bool) -> tuple[Shared, ...]:
    dialogue.say("Networks of this router with a static address:")
    for network in networks.static:
        dialogue.say(f"  {describe(network)}")
    for name, proto in networks.others:
        dialogue.say(f"  ({name}: {proto}, has no static address and can't have a shared one)")
    dialogue.say()
    every = " ".join(network.name for network in networks.static)

    def wrong(text: str) -> str | None:
        unknown = [name for name in text.split() if networks.get(name) is None]
        if unknown:
            return f"not one of them: {' '.join(unknown)}"
        return None if text.split() else "at least one"

    names = dialogue.ask("Networks with a shared address", every, wrong).split()
    return tuple(_ask_address(dialogue, networks, name, look) for name in dict.fromkeys(names))


def _ask_address(dialogue: Dialogue, networks: Networks, name: str, look: bool) -> Shared:
    network = networks.get(name)
    assert network is not None
    own = " ".join(str(item) for item in network.addresses)

    def wrong(text: str) -> str | None:
        problems = [address_problem(network, word) for word in text.split()] or ["an address is needed"]
        if any(problems) or not look:
            return "\n".join(filter(None, problems)) or None
        return "\n".join(taken(network, map(str, text.split()))) or None

    what = "Shared address" if network.gateway else "Gateway address of the clients"
    text = dialogue.ask(f"{what} in {name} (this router is {own})", propose_address(network), wrong)
    return share(networks, name, [plain(network, word) for word in text.split()])


def taken(network: Network, addresses: Iterable[str]) -> list[str]:
    """Return a sentence about each IPv4 address for which a host in the network answers."""
    return [
        f"{address} is taken in {network.name}: {mac} answers for it"
        for address in (plain(network, text) for text in addresses)
        if ":" not in address and (mac := segment.who_has(network.device, address))
    ]


def describe(network: Network) -> str:
    """Return a line about a network."""
    way_out = f", way out by {network.gateway}" if network.gateway else ""
    return f"{network.name}: {' '.join(map(str, network.addresses))} on {network.device}{way_out}"


def no_networks(networks: Networks) -> str:
    """Return the reason why no network can be set up."""
    others = ", ".join(f"{name} ({proto})" for name, proto in networks.others) or "none at all"
    return (
        f"no network has a static address, which both routers need beside the shared one; there are: {others}"
    )
