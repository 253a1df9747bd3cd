# SPDX-License-Identifier: GPL-2.0-or-later
"""FTP through the routers: what the helper knows moves with the connection, in both modes of FTP."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from functools import partial

import pytest

from tests.lab import FAR, WAN_ADDRESS, Host, SeedLab, wait_until

from .live import CLIENT, equal, failover, held, power_loss, settle, started, sync, synced, takes_over, told

Open = Callable[[SeedLab], SeedLab]

FTP = f"""
table inet ftp {{
    ct helper ftp {{ type "ftp" protocol tcp; l3proto ip; }}
    chain prerouting {{
        type filter hook prerouting priority filter
        tcp dport 21 ct helper set "ftp"
    }}
}}
table ip forwards {{
    chain dstnat {{
        type nat hook prerouting priority dstnat
        ip daddr {WAN_ADDRESS} tcp dport 21 dnat to {CLIENT}
    }}
}}
"""


class Control:
    """A control connection: between two hosts, each with its address, by what the client connects `to`."""

    def __init__(self, client: tuple[Host, str], server: tuple[Host, str], to: str) -> None:
        with server[0].enter(lambda: socket.create_server((server[1], 21))) as listener:
            self.client = client[0].enter(lambda: socket.create_connection((to, 21), 5, (client[1], 0)))
            self.server = listener.accept()[0]
        self.server.settimeout(10)
        self.say(self.server, "220 ready")
        self.say(self.client, "USER anonymous")  # the helper believes nothing that does not follow a newline

    def say(self, speaker: socket.socket, line: str) -> str:
        """The line as it arrives at the other end."""
        other = self.client if speaker is self.server else self.server
        speaker.sendall(line.encode() + b"\r\n")
        data = b""
        while not data.endswith(b"\n"):
            part = other.recv(1000)
            assert part, "the control connection is closed"
            data += part
        return data.decode().strip()

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Transfers:
    """One end listens and says so by `announce`; the other one connects to where it is told to."""

    def __init__(self, lab: SeedLab, control: Control) -> None:
        self.lab, self.control = lab, control

    def announce(self) -> tuple[socket.socket, tuple[str, int]]:
        """A listener in the LAN, and where the far end is told to connect to."""
        listener = self.lab.client.enter(lambda: socket.create_server((CLIENT, 0)))
        listener.settimeout(5)
        number = listener.getsockname()[1]
        told = self.tell(f"{CLIENT.replace('.', ',')},{number >> 8},{number & 255}")
        found = re.search(r"(\d+,\d+,\d+,\d+),(\d+),(\d+)", told)
        assert found, told
        address, high, low = found.groups()
        return listener, (address.replace(",", "."), int(high) << 8 | int(low))

    def tell(self, where: str) -> str:
        raise NotImplementedError

    def begin(self, listener: socket.socket, where: tuple[str, int]) -> tuple[socket.socket, socket.socket]:
        """The far end connects; it can only reach the router's address."""
        assert where[0] == WAN_ADDRESS, where
        far = self.lab.server.enter(lambda: socket.create_connection(where, 5, (FAR, 0)))
        near = listener.accept()[0]
        listener.close()
        near.settimeout(10)
        return far, near


class Active(Transfers):
    """The client is in the LAN and says where it listens; the server connects."""

    def __init__(self, lab: SeedLab) -> None:
        super().__init__(lab, Control((lab.client, CLIENT), (lab.server, FAR), FAR))

    def tell(self, where: str) -> str:
        told = self.control.say(self.control.client, f"PORT {where}")
        assert self.control.say(self.control.server, "200 PORT command successful").startswith("200 ")
        return told


class Passive(Transfers):
    """The server is in the LAN, behind a port forward, and says where it listens; the client connects."""

    def __init__(self, lab: SeedLab) -> None:
        super().__init__(lab, Control((lab.server, FAR), (lab.client, CLIENT), WAN_ADDRESS))

    def tell(self, where: str) -> str:
        assert self.control.say(self.control.client, "PASV") == "PASV"
        return self.control.say(self.control.server, f"227 Entering Passive Mode ({where}).")


def carries(ends: tuple[socket.socket, socket.socket]) -> None:
    far, near = ends
    far.sendall(b"data")
    assert near.recv(10) == b"data"


@pytest.fixture
def lab(open_lab: Open) -> SeedLab:
    made = open_lab(SeedLab(partial(synced, rules=FTP)))
    started(made)
    return made


@pytest.mark.parametrize("mode", [Active, Passive])
def test_transfers_announced_to_the_other_router(lab: SeedLab, mode: type[Active | Passive]) -> None:
    """A transfer goes on; one that was announced to the other router can be made; so can new ones."""
    ftp = mode(lab)
    transfers = [ftp.begin(*ftp.announce())]
    for event in (power_loss, failover):
        expected = ftp.announce()
        active, backup = told(lab)
        event(lab, active)
        takes_over(lab, backup)
        for ends in transfers:
            carries(ends)
        transfers.append(ftp.begin(*expected))
        transfers.append(ftp.begin(*ftp.announce()))
        for ends in transfers:
            carries(ends)
        if event is power_loss:
            active.power_on()


def test_a_transfer_outlives_its_control_connection(lab: SeedLab) -> None:
    """The entry of the control connection is gone when a new backup learns of the transfer's."""
    ftp = Passive(lab)
    transfer = ftp.begin(*ftp.announce())
    carries(transfer)
    active, backup = told(lab)
    ftp.control.close()
    active.exec("conntrack", "-D", "-p", "tcp", "--orig-port-dst", "21")
    backup.power_off()
    backup.power_on()
    settle(lab)
    wait_until(lambda: equal(lab) and held(backup) > 0, 20, "the backup has everything")
    power_loss(lab, active)
    takes_over(lab, backup)
    carries(transfer)
    assert not sync(backup)["last_restore"].get("failed")
