# SPDX-License-Identifier: GPL-2.0-or-later
"""The plan as the resident daemon sees it, and how it starts the planner process.

The planner (`tandem.plan.start`, `process`) reads the configuration and writes the plan to its standard
output with marshal. Both processes run the same interpreter, so the format is the same.
"""

from __future__ import annotations

import marshal
import sys
from dataclasses import dataclass

from tandem.config.schema import Config, from_plain

# One complete netlink message with sequence number and port id 0: label for people, bytes, and at
# which offsets the index of which interface is to be written.
Template = tuple[str, bytes, tuple[tuple[int, str], ...]]

# Notifications of the kernel that mean that something of ours is gone:
# ("address", interface, family, packed) | ("route", family, packed, prefix length, table, metric)
# | ("rule", family, priority, table). Families are 4 or 6.
Watch = tuple[str | int | bytes, ...]

# Number of Tandem's own routes, rules (rtm_protocol, FRA_PROTOCOL) and virtual addresses (IFA_PROTO):
# that of VRRP in IP. Static addresses, which are there whatever the role, have another one.
PROTOCOL = 112
STATIC_ADDRESS_PROTOCOL = 113
ALIAS = "tandem"  # IFLA_IFALIAS of its macvlans
FOLLOWER = "tandem: follows the role"  # likewise of the devices of followed networks
# Tables of nftables, all of the family inet; the gate's name stands in gate/rules.py as well.
TABLE, GATE_TABLE, DHCP_TABLE = "tandem", "tandem_gate", "tandem_dhcp"
ADDRESS_TABLE, NOTRACK_TABLE = "tandem_addresses", "tandem_notrack"
BALANCE_TABLE = "tandem_balance"

_START = """\
import sys
sys.path.insert(0, sys.argv[1])
from tandem.plan.start import main
sys.exit(main(sys.argv[2:]))
"""


class PlanError(Exception):
    """There is no usable plan: `errors` says why, one text for people each."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Vmac:
    """The macvlan of an instance with `use_vmac` and the messages of its life."""

    name: str
    base: str
    mac: bytes
    create: Template
    configure: Template
    up: Template
    down: Template
    delete: Template


@dataclass(frozen=True, slots=True)
class Forms:
    """Other ways to install an IPv6 address of `up` and `refresh`, see `core.prefix`."""

    device: str
    address: bytes  # packed
    prefixlen: int
    beside: Template
    alone: Template
    remove: Template  # what `beside` added


@dataclass(frozen=True, slots=True)
class InstancePlan:
    """Everything that one instance installs while it is active."""

    up: tuple[Template, ...]  # addresses, routes, rules
    refresh: tuple[Template, ...]  # the addresses that carry a lifetime
    down: tuple[Template, ...]  # the reverse of `up`
    watch: tuple[Watch, ...]
    nft: bytes  # its rules; b"": none
    vmac: Vmac | None
    forms: dict[str, Forms]  # by the label of the address in `up`


@dataclass(frozen=True, slots=True)
class GuardPlan:
    """Parts of transactions on a guard's table: see `plan.encode_guard` and `plan.encode_switch`."""

    hold: bytes  # b"": no instance needs the table
    empty: bytes
    tail: bytes
    clear: bytes
    answer: dict[str, bytes]  # by instance, of those that need it


@dataclass(frozen=True, slots=True)
class BalancePlan:
    """Parts of transactions on the table of virtual servers: see `plan.encode_balance`."""

    hold: bytes  # without `tail`
    tail: bytes
    clear: bytes
    maps: dict[str, str]  # names, by virtual server
    values: dict[str, dict[str, bytes]]  # by virtual server and real server ("": the sorry server)


@dataclass(frozen=True, slots=True)
class LeasePlan:
    """The files of dnsmasq that `dhcp_gateway` reads and writes, see `plan.dnsmasq`."""

    leasefile: str
    snippet: tuple[str, str]  # path and content
    state_dir: str | None  # of the overlay of UCI; None: this is no OpenWrt
    force: tuple[str, ...]  # sections of /etc/config/dhcp that get `force` there
    networks: dict[str, tuple[tuple[int, int, int], ...]]  # by instance: family, network and mask as numbers
    resolvers: dict[str, tuple[str, ...]]  # by network, what odhcpd names, see openwrt/resolvers.py


@dataclass(frozen=True, slots=True)
class Plan:
    """The configuration, with all the messages that it requires the kernel to get."""

    config: Config
    identity: tuple[str, ...]  # fields of an instance that make it the virtual router that it is
    warnings: tuple[str, ...]
    instances: dict[str, InstancePlan]
    static_up: tuple[Template, ...]
    static_down: tuple[Template, ...]
    nft_head: bytes
    nft_tail: bytes
    nft_clear: bytes
    nft_former: bytes  # removes what a daemon that was killed may have left
    nft_notrack: bytes  # makes the table that keeps what the routers say out of connection tracking
    nft_no_notrack: bytes
    guard: GuardPlan  # of DHCP
    switch: GuardPlan  # of addresses with an ordinary lifetime
    followers: dict[str, Vmac]  # the devices of followed networks, by network
    leases: LeasePlan | None  # None: no instance has `dhcp`
    balance: BalancePlan | None  # None: there is no virtual server

    @property
    def route_protocols(self) -> frozenset[int]:
        """The protocol numbers of all routes of the plan."""
        config = self.config
        routes = [route for instance in config.instances for route in instance.routes]
        stated = {route.protocol for route in (*routes, *config.static_routes) if route.protocol is not None}
        return frozenset({PROTOCOL, *stated})


def planner_argv(package_dir: str, config_file: str, kept: str = "") -> list[str]:
    """The command that plans `config_file`; `package_dir` is the directory that holds `tandem/`.

    The planner returns the plan that is `kept` in this file while nothing has changed that it was made of.
    """
    flags = "-IB" if sys.dont_write_bytecode else "-I"
    return [sys.executable, flags, "-c", _START, package_dir, "-c", config_file, *([kept] if kept else ())]


def load_plan(data: bytes) -> Plan:
    """The plan in the planner's output. PlanError when it has errors or is not a plan."""
    try:
        plain = marshal.loads(data)
        if "errors" in plain:
            errors = tuple(str(error) for error in plain["errors"])
        else:
            return _plan(plain)
    except (ValueError, EOFError, TypeError, KeyError, AttributeError) as error:
        raise PlanError((f"the planner's output is not a plan: {error!r}",)) from None
    raise PlanError(errors)


def _plan(plain: dict) -> Plan:  # type: ignore[type-arg]
    instances = {
        name: InstancePlan(
            up=tuple(part["up"]),
            refresh=tuple(part["refresh"]),
            down=tuple(part["down"]),
            watch=tuple(part["watch"]),
            nft=part["nft"],
            vmac=None if part["vmac"] is None else Vmac(**part["vmac"]),
            forms={label: Forms(*found) for label, found in part["forms"].items()},
        )
        for name, part in plain["instances"].items()
    }
    return Plan(
        config=from_plain(plain["config"]),
        identity=plain["identity"],
        warnings=tuple(plain["warnings"]),
        instances=instances,
        static_up=tuple(plain["static"]["up"]),
        static_down=tuple(plain["static"]["down"]),
        nft_head=plain["nft"]["head"],
        nft_tail=plain["nft"]["tail"],
        nft_clear=plain["nft"]["clear"],
        nft_former=plain["nft"]["former"],
        nft_notrack=plain["nft"]["notrack"],
        nft_no_notrack=plain["nft"]["no_notrack"],
        guard=GuardPlan(**plain["guard"]),
        switch=GuardPlan(**plain["switch"]),
        followers={name: Vmac(**found) for name, found in plain["followers"].items()},
        balance=None if plain["balance"] is None else BalancePlan(**plain["balance"]),
        leases=None if plain["leases"] is None else LeasePlan(**plain["leases"]),
    )
