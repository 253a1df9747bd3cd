# SPDX-License-Identifier: GPL-2.0-or-later
"""Agents: how the services of each class are started, stopped and monitored. Pure.

`AGENTS` is a table of command lines, and of the exit statuses that mean something else than OCF's. The
names of the classes are Pacemaker's (ocf, systemd, lsb), with `procd` for OpenWrt's init scripts and
`container` for Docker and Podman. A service without an agent is a command in the foreground, which the
daemon starts itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tandem.core.service import Operation
from tandem.core.settings import Service

OCF_ROOT = "/usr/lib/ocf"
TEMPORARY = "/run/resource-agents"  # HA_RSCTMP, where agents keep what a boot shall forget
REASON = b"ocf-exit-reason:"
REASON_MAX = 200  # characters
NOT_INSTALLED, NOT_RUNNING = 5, 7  # exit statuses of OCF agents
HELP = b"\nAvailable commands:\n"  # rc.common prints its help, and succeeds, when it does not know a command
BLIND = "nobody knows whether it runs, so it is stopped first: its init script does not use procd"
STARTS_NOTHING = "it does not run after its start: see its log, and whether its own configuration enables it"

NO_CONTAINER = b"no such container"
NO_DOCKER = b"Cannot connect to the Docker daemon"

PROBE, MONITOR, START, STOP = Operation.PROBE, Operation.MONITOR, Operation.START, Operation.STOP


@dataclass(frozen=True, slots=True)
class Agent:
    """The command lines of a class; "{}" stands for the name. `statuses` are those of its monitor."""

    lines: dict[Operation, tuple[str, ...]]
    statuses: dict[int, int]
    stops: dict[int, int] = field(default_factory=dict)  # statuses of its stop
    expects: bytes = b""  # a monitor that ends with 0 prints this when the service runs
    returns_early: bool = False  # its start and stop do not wait for the service


AGENTS: dict[str, Agent] = {
    "systemd": Agent(
        {
            START: ("systemctl", "start", "{}"),
            STOP: ("systemctl", "stop", "{}"),
            MONITOR: ("systemctl", "is-active", "--quiet", "{}"),
        },
        {3: NOT_RUNNING, 4: NOT_INSTALLED},  # systemctl(1), exit status
        {5: NOT_RUNNING},  # a unit that is not loaded, such as one that a start has not found
    ),
    "lsb": Agent(
        {
            START: ("/etc/init.d/{}", "start"),
            STOP: ("/etc/init.d/{}", "stop"),
            MONITOR: ("/etc/init.d/{}", "status"),
        },
        {1: NOT_RUNNING, 2: NOT_RUNNING, 3: NOT_RUNNING},  # LSB 5.0, Init Script Actions
    ),
    "procd": Agent(
        {
            START: ("/etc/init.d/{}", "start"),
            STOP: ("/etc/init.d/{}", "stop"),
            MONITOR: ("/etc/init.d/{}", "running"),
        },
        {1: NOT_RUNNING},  # rc.common of OpenWrt
        returns_early=True,
    ),
    "docker": Agent(
        {
            START: ("docker", "start", "{}"),
            STOP: ("docker", "stop", "{}"),
            MONITOR: ("docker", "container", "inspect", "--format", "{{.State.Running}}", "{}"),
        },
        {},
        expects=b"true",
    ),
    "podman": Agent(
        {
            START: ("podman", "start", "{}"),
            STOP: ("podman", "stop", "{}"),
            MONITOR: ("podman", "container", "inspect", "--format", "{{.State.Running}}", "{}"),
        },
        {},
        expects=b"true",
    ),
}


def line(service: Service, operation: Operation) -> tuple[str, ...]:
    """Return the command line of an operation; its first word may lack the directory."""
    if operation is Operation.PROBE:
        operation = MONITOR
    kind, _, name = service.agent.partition(":")
    if kind == "ocf":
        provider, _, kind_of = name.partition(":")
        return (f"{OCF_ROOT}/resource.d/{provider}/{kind_of}", operation.value)
    return tuple(
        name if word == "{}" else word.replace("/{}", f"/{name}") for word in AGENTS[kind].lines[operation]
    )


def environment(service: Service, operation: Operation, router: str) -> dict[str, str]:
    """Return the variables of an OCF agent (resource agent API 1.1, and Pacemaker's CRM_meta)."""
    kind, _, name = service.agent.partition(":")
    if kind != "ocf":
        return {}
    provider, _, kind_of = name.partition(":")
    interval = service.monitor_interval_ms if operation is MONITOR else 0  # 0 is a probe
    return {
        "OCF_ROOT": OCF_ROOT,
        "OCF_RA_VERSION_MAJOR": "1",
        "OCF_RA_VERSION_MINOR": "1",
        "OCF_RESOURCE_INSTANCE": service.name,
        "OCF_RESOURCE_PROVIDER": provider,
        "OCF_RESOURCE_TYPE": kind_of,
        "OCF_EXIT_REASON_PREFIX": REASON.decode(),
        "HA_RSCTMP": TEMPORARY,
        "OCF_RESKEY_CRM_meta_name": line(service, operation)[1],
        "OCF_RESKEY_CRM_meta_interval": str(interval),
        "OCF_RESKEY_CRM_meta_timeout": str(timeout_ms(service, operation)),
        "OCF_RESKEY_CRM_meta_on_node": router,
    } | {
        (name if name.startswith("OCF_CHECK_LEVEL") else f"OCF_RESKEY_{name}"): value
        for name, value in service.params
    }


def timeout_ms(service: Service, operation: Operation) -> int:
    """Return how long an operation may take, in ms."""
    if operation is START:
        return service.start_timeout_ms
    return service.stop_timeout_ms if operation is STOP else service.monitor_timeout_ms


def returns_early(service: Service) -> bool:
    """Whether a start and a stop end before the service has started or ended."""
    agent = AGENTS.get(service.agent.partition(":")[0])
    return agent is not None and agent.returns_early


def is_blind(service: Service, output: bytes) -> bool:
    """Whether a monitor has printed that it cannot tell: an init script that does not use procd has none."""
    return service.agent.startswith("procd:") and HELP in output


def status_of(service: Service, operation: Operation, status: int, output: bytes) -> int:
    """Return OCF's exit status for that of a command."""
    kind = service.agent.partition(":")[0]
    if kind == "ocf" or operation is START:
        return status
    agent = AGENTS[kind]
    if operation is STOP:
        return agent.stops.get(status, status)
    if agent.expects and NO_CONTAINER in output.lower():
        return NOT_INSTALLED
    if operation is PROBE and NO_DOCKER in output:
        return NOT_RUNNING  # at boot, when it has not started Docker's containers
    if status == 0 and agent.expects:
        return 0 if output.strip() == agent.expects else NOT_RUNNING
    return agent.statuses.get(status, status)


def reason_of(output: bytes) -> str:
    """Return what an agent says of its failure: its exit reason, otherwise its last line; printable."""
    # systemctl's last line says where to read more.
    lines = [one.strip() for one in output.splitlines() if one.strip() and not one.startswith(b'See "')]
    reasons = [one.partition(REASON)[2].strip() for one in lines if REASON in one]
    text = (reasons or lines or [b""])[-1].decode(errors="replace")
    return "".join(char for char in text if char.isprintable())[:REASON_MAX]
