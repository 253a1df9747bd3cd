# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines of the examples: tandemd, keepalived, or Pacemaker with Corosync, which start one server.

The namespaces of the lab separate networks only. Servers and cluster managers also have fixed places under
/run and /var/lib, so each machine gets empty ones (a mount namespace), and a host name.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from tests.lab import Daemon, Instance, Keepalived, LabError, Router, Tandem, netns, process
from tests.lab.scenario import keepalived_conf, tandem_uci

from .server import ADDRESS, RUN, Server, primitive

PRIVATE = "/run /dev/shm /var/lib/corosync /var/lib/pacemaker /var/log"
MACHINE = f"""
set -e
hostname "$1"; shift
for directory in {PRIVATE}; do
	[ ! -d $directory ] || mount -t tmpfs tmpfs $directory
done
mkdir -p {RUN} /run/resource-agents /run/lock
"""
SERVICE = """
config peer 'r{other}'
	list address '192.168.1.{last}'
	option secret 'of the lab, and of nothing else'

config service '{name}'
"""
NODE = "  node {{\n    ring0_addr: 192.168.1.{last}\n    name: r{number}\n    nodeid: {number}\n  }}\n"
COROSYNC = f"""
totem {{
  version: 2
  cluster_name: example
  transport: udpu
}}
nodelist {{
{NODE.format(number=1, last=2)}{NODE.format(number=2, last=3)}}}
quorum {{
  provider: corosync_votequorum
  two_node: 1
  wait_for_all: 0
}}
logging {{
  to_stderr: yes
  to_syslog: no
}}
"""
# There is no device that could fence; the resources stay where they are, and prefer r1 at first.
CIB = """
<cib validate-with="pacemaker-3.9" admin_epoch="1" epoch="1" num_updates="0">
  <configuration>
    <crm_config>
      <cluster_property_set id="properties">
        <nvpair id="properties-stonith" name="stonith-enabled" value="false"/>
      </cluster_property_set>
    </crm_config>
    <nodes/>
    <resources><group id="both">{resources}</group></resources>
    <constraints><rsc_location id="first" rsc="both" node="r1" score="10"/></constraints>
    <rsc_defaults>
      <meta_attributes id="stays">
        <nvpair id="stays-here" name="resource-stickiness" value="100"/>
      </meta_attributes>
    </rsc_defaults>
  </configuration>
  <status/>
</cib>
"""
UCARP = """#!/bin/sh
# What ucarp runs when the address comes (up) or goes (down).
case {event} in
up)
	ip address add {address}/24 dev eth0
	{init} start
	;;
down)
	{init} stop
	ip address del {address}/24 dev eth0
	;;
esac
"""
CLUSTER = """
mount --bind {init} /etc/init.d
export PCMK_logfile={log}
mkdir -p /run/crm /var/log/pacemaker /var/log/corosync /var/lib/pacemaker/cib /var/lib/pacemaker/pengine
cp {cib} /var/lib/pacemaker/cib/cib.xml
chmod 600 /var/lib/pacemaker/cib/cib.xml
chown -R hacluster:haclient /run/crm /var/log/pacemaker /var/lib/pacemaker
corosync -f -c {conf} &
until corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.1; done
"""


def machine(router: Router, argv: Sequence[str], boot: str) -> list[str]:
    """Return the command line that runs a program on a machine, after the shell's commands `boot`."""
    script = f'{MACHINE}{boot}\nexec "$@"\n'
    return ["unshare", "--mount", "--uts", "sh", "-c", script, "sh", router.name, *argv]


def instances(number: int) -> list[Instance]:
    """The address; r1 is preferred at first, and nothing moves when it is back."""
    preferred = 200 - 50 * number
    return [Instance("V1", "eth0", 51, (f"{ADDRESS}/24",), priority=preferred, version=3, preempt=False)]


class TandemServer(Tandem):
    """tandemd with the server as a service; everything else is the default."""

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(instances(number))
        self._server, self._number = server, number

    def write(self, router: Router) -> None:
        directory, number = router.lab.directory, self._number
        self._server.write(directory)
        service = SERVICE.format(other=3 - number, last=4 - number, name=self._server.name)
        self.text = tandem_uci(self.instances) + service + self._server.section(directory)
        super().write(router)

    def commands(self, router: Router) -> list[list[str]]:
        return [machine(router, argv, self._server.boot) for argv in super().commands(router)]


class KeepalivedServer(Keepalived):
    """keepalived, whose notify script starts and stops the server."""

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(instances(number))
        self._server = server

    def write(self, router: Router) -> None:
        directory, script = router.lab.directory, router.file("notify")
        self._server.write(directory)
        script.write_text(self._server.init(directory))
        script.chmod(0o755)
        events = {"master": "start", "backup": "stop", "fault": "stop", "stop": "stop"}
        notify = "\n".join(f'  notify_{event} "{script} {word}"' for event, word in events.items())
        self.text = keepalived_conf(self.instances).replace(
            "  virtual_ipaddress", f"{notify}\n  virtual_ipaddress"
        )
        super().write(router)

    def commands(self, router: Router) -> list[list[str]]:
        return [machine(router, argv, self._server.boot) for argv in super().commands(router)]


class UcarpServer(Daemon):
    """ucarp, whose scripts set the address, and start and stop the server."""

    name = "ucarp"

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(instances(number))
        self._server, self._number = server, number

    def write(self, router: Router) -> None:
        directory, init = router.lab.directory, router.file("init")
        self._server.write(directory)
        texts = {init: self._server.init(directory)}
        for event in ("up", "down"):
            texts[router.file(event)] = UCARP.format(event=event, address=ADDRESS, init=init)
        for path, text in texts.items():
            path.write_text(text)
            path.chmod(0o755)

    def commands(self, router: Router) -> list[list[str]]:
        scripts = [f"--{event}script={router.file(event)}" for event in ("up", "down")]
        network = ["--interface=eth0", f"--srcip=192.168.1.{self._number + 1}", f"--addr={ADDRESS}"]
        who = ["--vhid=51", "--pass=lab", f"--advskew={100 * (self._number - 1)}"]
        return [machine(router, ["ucarp", *network, *who, *scripts], self._server.boot)]

    def states(self, router: Router) -> dict[str, str]:
        return {}


class PacemakerServer(Daemon):
    """Corosync and Pacemaker with a group of two resources: the address (IPaddr2) and the server."""

    name = "pacemaker"

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(instances(number))
        self._server = server

    def write(self, router: Router) -> None:
        directory = router.lab.directory
        self._server.write(directory)
        router.file("conf").write_text(COROSYNC)
        agent = 'class="ocf" provider="heartbeat" type="IPaddr2"'
        address = primitive("address", agent, {"ip": ADDRESS, "cidr_netmask": "24"})
        resources = address + self._server.primitive(directory)
        init = router.file("init.d")
        init.mkdir(exist_ok=True)
        (init / self._server.name).write_text(self._server.init(directory))
        (init / self._server.name).chmod(0o755)
        router.file("cib").write_text(CIB.format(resources=resources))

    def commands(self, router: Router) -> list[list[str]]:
        cluster = CLUSTER.format(
            log=router.file("pacemaker.log"),
            cib=router.file("cib"),
            conf=router.file("conf"),
            init=router.file("init.d"),
        )
        return [machine(router, ["pacemakerd"], self._server.boot + cluster)]

    def states(self, router: Router) -> dict[str, str]:
        return {}


DAEMONS: dict[str, type[TandemServer | KeepalivedServer | UcarpServer | PacemakerServer]] = {
    "tandemd": TandemServer,
    "keepalived": KeepalivedServer,
    "ucarp": UcarpServer,
    "pacemaker": PacemakerServer,
}


def hand_over(router: Router) -> None:
    """Do what an operator does to move the server elsewhere."""
    if isinstance(router.daemon, Tandem):
        Tandem.request(router, "failover")
    elif isinstance(router.daemon, Keepalived):
        router.stop(60)  # it has no command for that
    elif isinstance(router.daemon, UcarpServer):
        router.signal(signal.SIGUSR2)
    else:
        inside(router, "crm_standby", "--update", "on", "--node", router.name)


def inside(router: Router, *argv: str) -> str:
    """Run a command on a machine, and return its output. LabError: it fails."""
    return netns.run(["nsenter", "--target", str(router.pid), "--mount", "--uts", "--net", *argv])


def started(router: Router) -> bool:
    """Whether the daemon of a machine says that the start of the server has ended."""
    if isinstance(router.daemon, Tandem):
        return all(one["state"] == "running" for one in Tandem.request(router, "status")["services"])
    if isinstance(router.daemon, Keepalived | UcarpServer):
        return True
    states = re.findall(r"^ .*\((?:ocf|lsb):.*", inside(router, "crm_mon", "--one-shot"), re.MULTILINE)
    return len(states) == 2 and all(f"Started {router.name}" in one for one in states)


def ready(router: Router) -> bool:
    """Whether the daemon of a machine runs and knows the other one."""
    try:
        if isinstance(router.daemon, Tandem):
            peers = Tandem.request(router, "status")["peers"]
            return all(one["connected"] and one["heartbeats"]["state"] == "alive" for one in peers)
        if isinstance(router.daemon, Keepalived):
            return bool(router.states())
        if isinstance(router.daemon, UcarpServer):
            return "Switching to state" in router.log()
        return "Online: [ r1 r2 ]" in inside(router, "crm_mon", "--one-shot")
    except (OSError, LabError):
        return False  # it starts


def lose_power(router: Router) -> None:
    """Pull the plug: servers end as well, which are no children of the daemon."""
    process.send_signal(netns.processes_inside([router.namespace]), signal.SIGSTOP)
    router.power_off()
    netns.kill_inside([router.namespace])


def servers(router: Router, server: Server) -> list[int]:
    """The processes of the server on a machine."""
    found = []
    for pid in netns.processes_inside([router.namespace]):
        try:
            with open(f"/proc/{pid}/comm") as file:
                if file.read().strip() == server.comm:
                    found.append(pid)
        except OSError:
            continue  # it has ended meanwhile
    return found
