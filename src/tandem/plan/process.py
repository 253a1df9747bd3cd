# SPDX-License-Identifier: GPL-2.0-or-later
"""The planner process: from the configuration file to encoded netlink messages.

It is short-lived because pyroute2 costs more memory than the whole daemon may take. The
daemon starts it (`tandem.plan.result.planner_argv`), reads the plan from its standard
output, and keeps only the bytes.
"""

from __future__ import annotations

import itertools
import marshal
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tandem.config.load import load_file
from tandem.config.options import identity
from tandem.config.schema import Config, plain
from tandem.core.settings import Address, Instance, Route, Rule
from tandem.plan import dnsmasq, encode_balance, encode_guard, encode_nft, encode_switch
from tandem.plan import encode_rtnl as rtnl
from tandem.plan.accounts import unknown_accounts
from tandem.plan.inputs import Inputs
from tandem.plan.result import PROTOCOL, STATIC_ADDRESS_PROTOCOL, Template, Watch
from tandem.plan.template import EncodeError

Placed = list[tuple[Address, str]]  # with the device that the address goes on
Numbered = list[tuple[Rule, int]]  # with its priority

VALID_S, PREFERRED_S = 2_592_000, 604_800  # what routers announce by default: RFC 4861 section 6.2.1

LIMIT_S = 50  # less than `tandem reload` waits


def build_plan(config: Config, warnings: Sequence[str]) -> dict[str, Any]:
    """The plan of a valid configuration, as plain values (see `tandem.plan.result`).

    Rules that state no priority get 16384 and up, counted over the whole configuration: so
    they stand before the main table (32766), in their own order, and two are never equal.
    EncodeError when a value passed validation that netlink can't carry.
    """
    priorities = itertools.count(rtnl.RULE_PRIORITY)
    router = dnsmasq.read_router() if config.dhcp_gateway else dnsmasq.Router()
    return {
        "config": plain(config),
        "identity": identity(),
        "warnings": (*warnings, *dnsmasq.warnings(config, router)),
        "instances": {
            instance.name: _instance(instance, config.globals.address_lifetime_s, priorities)
            for instance in config.instances
        },
        "static": _static(config, priorities),
        "nft": encode_nft.frame(config.instances) | encode_nft.notrack(config),
        "guard": _guard(config, router),
        "switch": encode_switch.switch(config.instances, config.globals.address_lifetime_s),
        "followers": {
            follow.name: rtnl.follower(follow.device, follow.interface, follow.mac)
            for follow in config.follows
            if follow.port
        },
        "balance": encode_balance.balance(config),
        "leases": dnsmasq.lease_plan(config, router),
    }


def _guard(config: Config, router: dnsmasq.Router) -> dict[str, Any]:
    lifetime = config.globals.address_lifetime_s
    answers = {
        instance.name: encode_guard.answer(router.devices(instance.interface), instance.family, lifetime)
        for instance in config.instances
        if instance.dhcp
    }
    return {**encode_guard.guard(config.instances, router.devices), "answer": answers}


def _instance(instance: Instance, lifetime_s: int, priorities: Iterator[int]) -> dict[str, Any]:
    home = instance.use_vmac or instance.interface
    addresses = _placed(instance.virtual_addresses + instance.excluded_addresses, home)
    rules = _numbered(instance.rules, priorities)
    up_addresses = _add_addresses(addresses, lifetime_s, PROTOCOL)
    vmac = None
    if instance.use_vmac:
        vmac = rtnl.vmac(instance.use_vmac, instance.interface, instance.virtual_router_id, instance.family)
    return {
        "up": up_addresses + _add_routes_and_rules(instance.routes, rules),
        "refresh": up_addresses if lifetime_s else (),
        "down": _delete(addresses, instance.routes, rules),
        "watch": tuple(_watches(addresses, instance.routes, rules)),
        "nft": encode_nft.fragment(instance),
        "vmac": vmac,
        "forms": _forms(instance, home, lifetime_s),
    }


def _forms(instance: Instance, home: str, lifetime_s: int) -> dict[str, tuple[Any, ...]]:
    """`plan.result.Forms` of the addresses whose prefix may be announced, by label."""
    found = {}
    for address, device in _placed(encode_switch.may_announce(instance), home):
        ordinary = address
        if lifetime_s and address.preferred_lifetime_s is None:
            ordinary = replace(address, preferred_lifetime_s=PREFERRED_S)
        single = replace(address, prefixlen=128)
        label = rtnl.add_address(address, device, lifetime_s)[0]
        found[label] = (
            device,
            rtnl.packed(address.address),
            address.prefixlen,
            rtnl.add_address(single, device, lifetime_s),
            rtnl.add_address(ordinary, device, VALID_S if lifetime_s else 0),
            rtnl.delete_address(single, device),
        )
    return found


def _static(config: Config, priorities: Iterator[int]) -> dict[str, tuple[Template, ...]]:
    # Validation has seen to it that every static address names its device.
    addresses = _placed(config.static_addresses, "")
    rules = _numbered(config.static_rules, priorities)
    return {
        "up": _add_addresses(addresses, 0, STATIC_ADDRESS_PROTOCOL)
        + _add_routes_and_rules(config.static_routes, rules),
        "down": _delete(addresses, config.static_routes, rules),
    }


def _placed(addresses: Iterable[Address], home: str) -> Placed:
    return [(address, address.device or home) for address in addresses]


def _numbered(rules: Iterable[Rule], priorities: Iterator[int]) -> Numbered:
    return [(rule, next(priorities) if rule.priority is None else rule.priority) for rule in rules]


def _add_addresses(addresses: Placed, lifetime_s: int, protocol: int) -> tuple[Template, ...]:
    return tuple(rtnl.add_address(address, device, lifetime_s, protocol) for address, device in addresses)


def _add_routes_and_rules(routes: Iterable[Route], rules: Numbered) -> tuple[Template, ...]:
    return (
        *(rtnl.add_route(route) for route in routes),
        *(rtnl.add_rule(rule, priority) for rule, priority in rules),
    )


def _delete(addresses: Placed, routes: Iterable[Route], rules: Numbered) -> tuple[Template, ...]:
    """Return the messages that undo the additions, in reverse order."""
    deletions = (
        *(rtnl.delete_address(address, device) for address, device in addresses),
        *(rtnl.delete_route(route) for route in routes),
        *(rtnl.delete_rule(rule, priority) for rule, priority in rules),
    )
    return deletions[::-1]


def _watches(addresses: Placed, routes: Iterable[Route], rules: Numbered) -> Iterator[Watch]:
    for address, device in addresses:
        yield "address", device, address.family, rtnl.packed(address.address)
    for route in routes:
        network, _, length = route.destination.partition("/")
        yield "route", route.family, rtnl.packed(network), int(length), route.table, rtnl.metric(route)
    for rule, priority in rules:
        yield "rule", rule.family, priority, rtnl.rule_table(rule)


def plan_file(path: str) -> dict[str, Any]:
    """The plan of a configuration file, or {"errors": texts}."""
    loaded = load_file(path)
    if loaded.config is None:
        return {"errors": tuple(str(problem) for problem in loaded.errors)}
    try:
        return _plan(_named(loaded.config), [str(problem) for problem in loaded.warnings])
    except EncodeError as error:
        return {"errors": tuple(f"{path}: {text}" for text in error.args)}


def _named(config: Config) -> Config:
    """Return the configuration with the host's name, as keepalived does, where it gives the router none."""
    name = config.globals.router_id or os.uname().nodename
    return replace(config, globals=replace(config.globals, router_id=name))


def problems(config: Config) -> tuple[str, ...]:
    """Why a valid configuration can't be planned on this router; empty: it can."""
    try:
        _plan(config, [])
    except EncodeError as error:
        return error.args
    return ()


def _plan(config: Config, warnings: Sequence[str]) -> dict[str, Any]:
    """`build_plan` for this router; EncodeError, with a text for each thing that is wrong."""
    if unknown := unknown_accounts(config):
        raise EncodeError(*unknown)
    return build_plan(config, warnings)


def _mistake(error: Exception) -> str:
    """Return one line about an unexpected exception, and where it was raised."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
    return f"{type(error).__name__}: {error} ({where})"


class _OutOfTime(BaseException):
    """Nobody waits any longer; not an Exception, because nothing on the way may handle it."""


def _out_of_time(_number: int, _frame: object) -> None:
    raise _OutOfTime


def main(argv: Sequence[str], limit_s: int = LIMIT_S, inputs: Inputs | None = None) -> int:
    """Plan the file of `-c FILE`; exit status 0, 2 when the plan holds only errors, 1: nobody reads it.

    The plan names the `inputs` with their signatures.

    It takes at most `limit_s` seconds: the file may be a pipe that nobody writes to, and a reload
    that waits for it for ever would keep all later ones waiting.
    """
    out = os.dup(1)
    os.dup2(2, 1)  # standard output carries the plan and nothing that a library may print
    if len(argv) != 2 or argv[0] != "-c":
        plan: dict[str, Any] = {"errors": ("usage: planner -c FILE",)}
    else:
        signal.signal(signal.SIGALRM, _out_of_time)
        signal.alarm(limit_s)
        try:
            plan = plan_file(argv[1])
            if inputs is not None:
                plan["inputs"] = inputs.pairs()
        except _OutOfTime:
            plan = {"errors": (f"{argv[1]}: could not be read and planned within {limit_s} s",)}
        except Exception as error:  # noqa: BLE001 - who asked gets one line, whatever it is
            plan = {"errors": (f"{argv[1]}: could not be planned: {_mistake(error)}",)}
        signal.alarm(0)
    try:
        with open(out, "wb") as pipe:
            pipe.write(marshal.dumps(plan))
    except BrokenPipeError:
        return 1  # who asked for it has ended meanwhile
    return 2 if "errors" in plan else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
