# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers with everything configured: two instances in a group, replication, ubus, networks, DHCP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import tandem
from tests.lab import Router, SeedLab, Tandem, seed_instances, wait_until
from tests.lab.scenario import tandem_uci
from tests.lab.topology import SYNC_GROUP, SYNC_SECRET
from tests.netns.live import settle
from tests.openwrt_pieces import USR

from .ubusd import FakeNetifd, Ubusd

NETWORKS = {"lan": "br-lan", "wan": "eth0.2"}


def configuration(number: int, directory: Path) -> str:
    """Return the configuration of router `number`, 1 or 2, with dnsmasq's files in `directory`."""
    networks = {device: network for network, device in NETWORKS.items()}
    instances = [replace(one, device=networks[one.device]) for one in seed_instances(0.1)]
    instances[0] = replace(instances[0], options={"dhcp": "1", "dhcp_tag": "lan"})
    sections = {
        "conntrack_sync": {"enabled": "1", "secret": SYNC_SECRET},
        "dhcp_gateway": {
            "leasefile": f"{directory}/leases",
            "confdir": f"{directory}/conf.d",
            "restart": "/bin/true",
        },
    }
    text = tandem_uci(instances, SYNC_GROUP)
    for name, options in sections.items():
        lines = [f"\toption {key} '{value}'" for key, value in options.items()]
        text += "\n".join(["", f"config {name}", *lines, ""])
        if name == "conntrack_sync":
            text += f"\tlist peer '192.168.1.{4 - number}'\n"
    return text


@contextmanager
def pair(directory: Path) -> Iterator[tuple[Router, Router]]:
    """(active, backup) in step, each with a ubusd and a netifd of its own in `directory`.

    Tandem is compiled, as on a router: a daemon that compiles itself at the start needs 2 MiB more for that.
    """
    package = str(Path(tandem.__file__).parent)
    compiled = [sys.executable, "-ISXno_debug_ranges", "-m", "compileall", "-qf", package]
    subprocess.run(compiled, check=True)

    def daemon(number: int) -> Tandem:
        text = configuration(number, directory / str(number))
        ubus = str(directory / str(number) / "ubus.sock"), str(USR / "lib")
        return Tandem(seed_instances(0.1), SYNC_GROUP, text, ubus=ubus)

    buses = []
    for number in (1, 2):
        (directory / str(number)).mkdir()
        buses.append(Ubusd(directory / str(number)))
    netifds = [FakeNetifd(bus) for bus in buses]
    try:
        for bus, netifd in zip(buses, netifds, strict=True):
            bus.start()
            netifd.networks = {
                name: {"up": True, "proto": "static", "device": device, "l3_device": device}
                for name, device in NETWORKS.items()
            }
            netifd.start()
        with SeedLab(daemon, tag="everything") as lab:
            lab.up()
            for router in lab.routers:
                router.start()
            yield _settled(lab)
    finally:
        for netifd in netifds:
            netifd.kill()
        for bus in buses:
            bus.close()


def _settled(lab: SeedLab) -> tuple[Router, Router]:
    active, backup = settle(lab)
    for router in (active, backup):
        wait_until(lambda: _complete(router), 20, "everything works", explain=lab.logs)  # noqa: B023
    return active, backup


def _complete(router: Router) -> bool:
    status = Tandem.request(router, "status")
    return status["networks"] == NETWORKS and status["dhcp"] is not None and len(status["dhcp"]["told"]) == 1
