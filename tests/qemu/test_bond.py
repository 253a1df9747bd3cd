# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual MAC address on a VLAN of a bond: two routers in namespaces of one machine."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from qemu.router import Pair, RouterMachine
from tests.lab import wait_until

SCRIPT = r"""
modprobe -a bonding 8021q macvlan veth bridge
mkdir -p /tmp/bond
for bridge in home aside; do ip link add $bridge type bridge; ip link set $bridge up; done
number=1
for router in a b; do
    number=$((number + 1))
    ip netns add $router
    ip link add port-$router type veth peer name eth0 netns $router
    ip link set port-$router master home up
    ip -n $router link set lo up
    ip -n $router link add bond0 type bond mode active-backup miimon 100
    ip -n $router link set eth0 master bond0
    ip -n $router link set bond0 up
    ip -n $router link add link bond0 name bond0.5 type vlan id 5
    ip -n $router address add 10.9.0.$number/24 dev bond0.5
    ip -n $router link set bond0.5 up
    cat >/tmp/bond/$router.uci <<X
config globals 'globals'
    option enabled '1'
config vrrp_instance
    option name 'I'
    option interface 'bond0.5'
    option virtual_router_id '77'
    option priority '$((200 - 50 * number))'
    option use_vmac '1'
    list virtual_ipaddress '10.9.0.1/24'
X
    ip netns exec $router /usr/sbin/tandemd -c /tmp/bond/$router.uci --ubus '' \
        --control /tmp/bond/$router/sock >/tmp/bond/$router.log 2>&1 &
    until [ -S /tmp/bond/$router/sock ]; do sleep 0.2; done
done
"""


def state(machine: RouterMachine, name: str) -> str:
    """The state of a router's only instance, as `tandem status` has it in JSON; empty without a daemon."""
    shown = machine.run(f"tandem --control /tmp/bond/{name}/sock status --json 2>/dev/null || true")
    return str(json.loads(shown)["instances"][0]["state"]) if shown.strip() else ""


@pytest.mark.parametrize("name", ["lab-x86_64"])
def test_routers_that_were_both_active_hear_each_other(pair: Callable[..., Pair], name: str) -> None:
    lab = pair(name)
    lab.set_up()
    machine = lab.routers[0]
    machine.run(SCRIPT, 120)

    def logs() -> str:
        return machine.run("cat /tmp/bond/*.log", check=False)

    def elected() -> bool:
        return (state(machine, "a"), state(machine, "b")) == ("MASTER", "BACKUP")

    wait_until(elected, 90, "a is active", every=1, explain=logs)
    machine.run("ip link set port-b master aside")
    wait_until(lambda: state(machine, "b") == "MASTER", 60, "b is active too", every=1, explain=logs)
    machine.run("ip link set port-b master home")
    wait_until(elected, 60, "b has heard a", every=1, explain=logs)
