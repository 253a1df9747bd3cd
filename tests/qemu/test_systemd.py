# SPDX-License-Identifier: GPL-2.0-or-later
"""Services that are systemd units, and containers of podman, on a machine with systemd as its init."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from qemu import pairs
from qemu.machine import Machine
from qemu.systemd_guest import systemd_guest, systemd_machine
from tests.lab import Lab, wait_until

from .guests import LOGS, skipped

VRRP = """config globals 'globals'
	option enabled '1'

config vrrp_instance 'I1'
	option interface 'lan0'
	option virtual_router_id '51'
	list virtual_ipaddress '192.168.1.4/24'
"""
SERVICE = """
config service '{name}'
	option agent '{agent}'
	option monitor_interval '1'
	option where '{where}'
"""
AGENTS = {
    "web": "systemd:web",
    "sticky": "systemd:sticky",
    "bad": "systemd:bad",
    "masked": "systemd:masked",
    "gone": "systemd:gone",
    "box": "podman:box",
    "lost": "podman:lost",
}
FAILING = ("bad", "masked", "gone", "lost")
UNITS = {
    "web": "ExecStart=/bin/sleep 10000",
    "masked": "ExecStart=/bin/sleep 10000",
    "bad": "Type=exec\nExecStart=/no/such/program",
    # Takes a second to end.
    "sticky": "ExecStart=/bin/sh -c 'trap \"sleep 1; exit 0\" TERM; while :; do sleep 0.1; done'",
}
IMAGE = """
mkdir -p /tmp/root/bin
cp /bin/busybox /tmp/root/bin
tar -C /tmp/root -c . | podman import - localhost/box
podman create --network none --name box localhost/box /bin/busybox sleep 10000
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine whose daemon runs, alone on its network."""
    with skipped():
        pairs.check("x86_64")
        image = systemd_guest()
    config = VRRP + "".join(
        SERVICE.format(name=name, agent=agent, where="everywhere" if name in FAILING else "active")
        for name, agent in AGENTS.items()
    )
    with Lab("systemd") as place:
        made = place.add(systemd_machine("m1", image, config))
        place.up()
        made.power_on()
        try:
            made.wait_booted()
            made.run("export SYSTEMD_PAGER=cat TERM=dumb")  # it is a terminal, where systemctl starts a pager
            made.run("ip link add lan0 type veth peer name lan1; ip link set lan1 up; ip link set lan0 up")
            made.run("ip address add 192.168.1.2/24 dev lan0")
            for name, text in UNITS.items():
                made.console.write(f"/lib/systemd/system/{name}.service", f"[Service]\n{text}\n")
            made.run("systemctl daemon-reload; systemctl mask masked; systemctl start web", 60)
            made.run(IMAGE, 120)
            made.run("systemctl start tandemd", 60)
            yield made
        finally:
            made.keep_logs(LOGS / "systemd")


def services(machine: Machine) -> dict[str, dict[str, Any]]:
    """The services by the daemon; none while it starts."""
    text = machine.run("/root/tandem/files/usr/bin/tandem services --json 2>/dev/null || true", 60)
    return {one["name"]: one for one in json.loads(text)["services"]} if text.strip() else {}


def states(machine: Machine, *names: str) -> list[str]:
    found = services(machine)
    return [found[name]["state"] for name in names if name in found]


def main_pid(machine: Machine, unit: str) -> str:
    """The main process of a unit, by systemd; "0": none."""
    return machine.run(f"systemctl show --property=MainPID --value {unit}").strip()


def journal(machine: Machine) -> str:
    return machine.run("journalctl --unit=tandemd --no-pager --lines=60", 60)


def test_units_and_containers_follow_x86_64(machine: Machine) -> None:
    def until(what: str, wanted: str, *names: str) -> None:
        there = lambda: states(machine, *names) == [wanted] * len(names)  # noqa: E731
        wait_until(there, 90, what, every=0.5, explain=lambda: journal(machine))

    # What runs is stopped before the role is known, and started with it.
    until("they run", "running", "web", "sticky", "box")
    assert main_pid(machine, "web") != "0" and "box" in machine.run("podman ps --format '{{.Names}}'", 60)
    found = services(machine)
    assert found["bad"]["failure"].startswith("start failed: Job for bad.service failed")
    assert (
        found["masked"]["failure"]
        == "start failed: Failed to start masked.service: Unit masked.service is masked."
    )
    assert (
        found["gone"]["failure"]
        == "start cannot run here: Failed to start gone.service: Unit gone.service not found."
    )
    assert (
        found["lost"]["failure"].startswith("probe cannot run here")
        and "no such container" in found["lost"]["failure"]
    )
    for name in FAILING:
        assert found[name]["state"] == "stopped" and found[name]["banned"], "another router may start it"

    # A main process that dies makes the unit a failed one; a container ends.
    before = main_pid(machine, "web")
    machine.run("systemctl kill --signal=KILL web; podman kill box", 60)
    wait_until(
        lambda: services(machine)["box"]["failures"] == 1, 60, "podman's", explain=lambda: journal(machine)
    )
    until("started again", "running", "web", "box")
    assert main_pid(machine, "web") not in ("0", before)
    assert services(machine)["web"]["failure"].startswith("monitor not running")

    # A daemon that is killed: its guardian stops them, and systemd starts the next one.
    daemon, before = main_pid(machine, "tandemd"), main_pid(machine, "web")
    machine.run("systemctl kill --kill-who=main --signal=KILL tandemd")
    wait_until(lambda: main_pid(machine, "tandemd") not in ("0", daemon), 60, "another daemon", every=0.5)
    until("all again", "running", "web", "sticky", "box")
    assert main_pid(machine, "web") not in ("0", before)

    # The end of the daemon is the end of its services.
    machine.run("systemctl stop tandemd", 120)
    assert [main_pid(machine, unit) for unit in ("web", "sticky")] == ["0", "0"]
    assert machine.run("podman ps --quiet", 60).strip() == ""
