# SPDX-License-Identifier: GPL-2.0-or-later
"""DHCP follows the role: one gateway for the clients, one memory of who has which address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.lab import LanLab, wait_until

from .dhcp_pair import (
    PRINTER,
    PRINTER_ADDRESS,
    VIP,
    Client,
    dhcp,
    knows,
    leases,
    pair,
    resolve,
    told,
)

Open = Callable[[Any], Any]


@pytest.fixture
def clients() -> Iterator[Callable[..., Client]]:
    with ExitStack() as stack:

        def make(*args: Any, **options: Any) -> Client:
            client = Client(*args, **options)
            stack.callback(client.close)
            return client

        yield make


def test_leases_survive_whatever_router_reboots(open_lab: Open, clients: Callable[..., Client]) -> None:
    lab: LanLab = pair(open_lab)
    r1, r2 = lab.routers
    laptop, phone, printer = (
        clients(lab.client, 1, "laptop"),
        clients(lab.client, 2, "phone"),
        clients(lab.client, 3, mac=PRINTER),
    )
    ack = laptop.lease()
    assert ack.options["router"] == VIP and ack.options["name_server"] == VIP
    assert ack.server == "192.168.1.2"
    assert printer.lease().address == PRINTER_ADDRESS
    knows(r2, laptop.address, PRINTER_ADDRESS)
    assert leases(r2)[laptop.address] == (laptop.mac, "laptop")

    r1.power_off()
    wait_until(lambda: r2.active, 10, "r2 took over")
    again = laptop.rebind()
    assert (again.kind, again.address, again.server) == ("ack", laptop.address, "192.168.1.3")
    assert again.options["router"] == VIP
    assert printer.reboot().address == PRINTER_ADDRESS
    assert phone.lease().address not in (laptop.address, PRINTER_ADDRESS)
    assert resolve(lab.client, VIP, "laptop.lan") == laptop.address

    # r1 boots with an empty lease file, and learns all of them.
    r1.power_on()
    wait_until(lambda: r1.running and told(lab), 15, "r1 is back")
    knows(r1, laptop.address, phone.address, PRINTER_ADDRESS)
    r2.power_off()
    wait_until(lambda: r1.active, 10, "r1 took over")
    for client in (laptop, phone):
        again = client.reboot()
        assert (again.kind, again.address, again.server) == ("ack", client.address, "192.168.1.2")
    assert printer.rebind().address == PRINTER_ADDRESS
    tablet = clients(lab.client, 4)
    assert tablet.lease().address not in (laptop.address, phone.address, PRINTER_ADDRESS)
    assert resolve(lab.client, VIP, "phone.lan") == phone.address

    # And the other direction once more.
    r2.power_on()
    wait_until(lambda: r2.running and told(lab), 15, "r2 is back")
    knows(r2, *(client.address for client in (laptop, phone, tablet)))
    assert dhcp(r2)["leases"] == 4
