# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases between routers: a topic of the channel (channel/topics.py).

A message is lines of text; the first line is the version:

    1
    =<lease>    the sender, MASTER of the lease's network, decides this lease
    +<lease>    the sender knows this lease
    -<address>  the sender, MASTER of the network, has seen the lease of this address released

<lease> is a line of `lease.to_wire`. When a session has opened, each router sends all leases that it knows,
and afterwards the changes in networks where it is MASTER. When a message found no room in the channel, the
sender sends everything again.
"""

from __future__ import annotations

from tandem.dhcp.lease import canonical_address, from_wire, to_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from tandem.channel.channel import Channel
    from tandem.dhcp.lease import Lease
    from tandem.log import Logger
    from tandem.status_schema import DhcpExchange

    class Leases(Protocol):
        """The keeper of the leases: `gateway.Gateway`."""

        def leases(self) -> Iterable[Lease]: ...
        def lease(self, address: str) -> Lease | None: ...
        def grants(self, address: str) -> bool: ...
        def heard(self, lease: Lease, decided: bool) -> None: ...
        def heard_released(self, address: str) -> None: ...
        def heard_all(self) -> None: ...
        def now(self) -> int: ...


TOPIC = "dhcp leases"
VERSION = b"1"
MESSAGE_MAX = 8 * 1024  # bytes; half of what a message may have


class Exchange:
    """Exchanges leases with every peer to which there is a channel."""

    def __init__(self, log: Logger, leases: Leases) -> None:
        self._channel: Channel | None = None
        self._log = log
        self._leases = leases
        self._peers: set[str] = set()
        self._behind: set[str] = set()  # peers that must get everything again
        self._counters = {"sent": 0, "received": 0, "malformed": 0, "resent": 0}

    def join(self, channel: Channel) -> None:
        """Use this channel."""
        self._channel = channel
        channel.subscribe(TOPIC, self)

    def tell(self, addresses: Iterable[str]) -> None:
        """Send the leases that this router has changed to the peers."""
        lines = [self._line(address) for address in dict.fromkeys(addresses)]
        if not lines:
            return
        for peer in self._peers - self._behind:
            self._say(peer, lines)

    def again(self) -> None:
        """Send everything to the peers to which a message could not be sent."""
        for peer in sorted(self._behind):
            self._behind.discard(peer)
            self._counters["resent"] += 1
            self.peer_opened(peer)

    # A subscriber of the channel

    def peer_opened(self, peer: str) -> None:
        """Send all leases to a peer that now has a session."""
        self._peers.add(peer)
        self._say(peer, [self._line(lease.address) for lease in self._leases.leases()])

    def peer_closed(self, peer: str) -> None:
        """Forget a peer whose session has closed."""
        self._peers.discard(peer)
        self._behind.discard(peer)

    def received(self, peer: str, data: bytes) -> None:
        """Read the lines of a peer; a malformed line is counted and left out."""
        version, *lines = data.split(b"\n")
        if version != VERSION:
            self._malformed(peer)
            return
        now = self._leases.now()
        for line in lines:
            text = line[1:].decode("ascii", errors="replace")
            if line[:1] in (b"=", b"+") and (lease := from_wire(text, now)) is not None:
                self._leases.heard(lease, line[:1] == b"=")
            elif line[:1] == b"-" and (address := canonical_address(text)) is not None:
                self._leases.heard_released(address)
            else:
                self._malformed(peer)
                continue
            self._counters["received"] += 1
        self._leases.heard_all()

    def status(self) -> DhcpExchange:
        """Return the counters, and the peers that have got everything."""
        counters = self._counters
        return {
            "told": sorted(self._peers - self._behind),
            "sent": counters["sent"],
            "received": counters["received"],
            "malformed": counters["malformed"],
            "resent": counters["resent"],
        }

    def _line(self, address: str) -> bytes:
        lease = self._leases.lease(address)
        if lease is None:
            return f"-{address}".encode()
        mark = "=" if self._leases.grants(address) else "+"
        return f"{mark}{to_wire(lease, self._leases.now())}".encode()

    def _say(self, peer: str, lines: list[bytes]) -> None:
        message: list[bytes] = [VERSION]
        size = 0
        for line in lines:
            if size + len(line) > MESSAGE_MAX:
                self._send(peer, message)
                message, size = [VERSION], 0
            message.append(line)
            size += len(line) + 1
        if len(message) > 1:
            self._send(peer, message)

    def _send(self, peer: str, message: list[bytes]) -> None:
        if self._channel is None or peer in self._behind:
            return
        if self._channel.send(peer, TOPIC, b"\n".join(message)):
            self._counters["sent"] += len(message) - 1
        else:
            self._behind.add(peer)

    def _malformed(self, peer: str) -> None:
        self._counters["malformed"] += 1
        self._log.limited(("dhcp", peer), "warning", f"dhcp: {peer} sent something that is no lease")
