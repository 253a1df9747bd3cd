# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem init`: its steps, in their order."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from dataclasses import replace
from getpass import getpass

from tandem.console import DONE, FAILED, UNUSABLE, complain, print_lines
from tandem.places import DEFAULT_VRID
from tandem.setup import files, line_command, service, token
from tandem.setup.dialogue import (
    Dialogue,
    Ended,
    ask_for_line,
    ask_to_track,
    interview,
    no_networks,
    provided,
    taken,
)
from tandem.setup.line import also_on, port_of, proto_of
from tandem.setup.networks import Networks, advertised_networks, read_networks, served_networks
from tandem.setup.pair import (
    Setup,
    SetupError,
    Shared,
    peer_problem,
    propose_address,
    propose_peer,
    share,
    shared_line,
    uplinks,
)
from tandem.setup.segment import used_ids

IPV6 = "/proc/sys/net/ipv6"
SHELL_LINE = 512  # characters of a line that OpenWrt's shell accepts


def run(arguments: argparse.Namespace) -> int:
    """Set this router up, as the first or the second one."""
    try:
        networks = known_networks(arguments.network_config)
        if not (arguments.force or arguments.dry_run) and (reason := files.in_use(arguments.config)):
            raise SetupError(reason)
        return _join(arguments, networks) if arguments.join else _invite(arguments, networks)
    except SetupError as error:
        complain(error.problems)
        return UNUSABLE
    except Ended:
        print()
        complain(["there are no more answers; nothing was written"])
        return FAILED
    except OSError as error:
        complain([f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")])
        return FAILED


def known_networks(path: str) -> Networks:
    with open(path, encoding="utf-8", errors="replace") as file:
        return read_networks(file.read(), path)


# The first router


def _invite(arguments: argparse.Namespace, networks: Networks) -> int:
    dialogue = Dialogue(sys.stdin, sys.stdout)
    asked = not arguments.network
    look = not arguments.force  # with --force, the running pair itself would be found
    setup = _given(arguments, networks)
    if asked:
        if not sys.stdin.isatty():
            raise SetupError("there is no terminal for questions: give --network NAME and --peer ADDRESS")
        setup = interview(dialogue, networks, setup, sync=not arguments.no_sync, look=look)
    elif look and (sentences := [line for one in setup.shared for line in taken(one.network, one.addresses)]):
        raise SetupError(*sentences)
    setup = with_dhcp(setup, arguments.dhcp_config)
    setup = _with_line(arguments, setup, networks, dialogue if asked else None)
    names = () if arguments.no_track or setup.line else uplinks(setup.shared, networks)
    if names and (not asked or ask_to_track(dialogue, names)):
        setup = replace(setup, uplinks=names)
    if look:
        if asked:
            dialogue.say("Listening for other virtual routers...")
        setup = with_free_id(setup, arguments.vrid)
    secret = files.new_secret() if setup.peer else ""
    text = files.verify(setup, secret)
    if arguments.dry_run:
        sys.stdout.write(text)
        return DONE
    if asked:
        dialogue.say(f"\n{text}")
        if not dialogue.confirm(f"Write this to {arguments.config}?"):
            return FAILED
    _install(arguments, setup, text, secret)
    if names and not asked:
        dialogue.say(f"\n{provided(names)}")
    word = token.encode(token.invitation(setup, networks, secret))
    print_lines(sys.stdout, _other_router(word, with_secret=bool(secret)))
    return _start(arguments, dialogue if asked else None)


def _given(arguments: argparse.Namespace, networks: Networks) -> Setup:
    """Return the set-up that the options give; SetupError with every problem in them."""
    shared: list[Shared] = []
    problems: list[str] = []
    for item in arguments.network or ():
        name, _, words = item.partition("=")
        network = networks.get(name)
        addresses = [word for word in words.split(",") if word]
        if not addresses and network is not None:
            addresses = [propose_address(network)]
        try:
            shared.append(share(networks, name, addresses))
        except SetupError as error:
            problems += error.problems
    peer = arguments.peer
    if peer is None and shared and not arguments.no_sync:
        peer = propose_peer(shared)
    if peer is not None:
        if problem := peer_problem(shared, networks, peer):
            problems.append(problem)
        peer = peer.split("/")[0]
    if not networks.static:
        problems = [no_networks(networks)]
    if problems:
        raise SetupError(*problems)
    return Setup(
        tuple(shared),
        None if arguments.no_sync else peer,
        virtual_router_id=arguments.vrid or DEFAULT_VRID,
        advert_int=arguments.advert_int,
        secret_file=arguments.secret_file,
    )


def with_dhcp(setup: Setup, path: str) -> Setup:
    """Let the active router give leases and advertise itself to IPv6 hosts where this router does so now."""
    served, advertised = dhcp_here(path)
    shared = (
        replace(one, dhcp=one.network.name in served, ra=one.network.name in advertised and has_ipv6(one))
        if not one.network.gateway
        else one
        for one in setup.shared
    )
    return replace(setup, shared=tuple(shared))


def dhcp_here(path: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the networks in which this router gives IPv4 leases, and those in which it advertises itself."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return frozenset(), frozenset()
    return served_networks(text, path), advertised_networks(text, path)


def has_ipv6(one: Shared) -> bool:
    """Return whether the device may have IPv6 addresses: without one, its instance stays in FAULT."""
    try:
        with open(f"{IPV6}/conf/{one.network.device}/disable_ipv6") as file:
            return file.read().strip() == "0"
    except OSError:
        return os.path.exists(IPV6)  # the device is not there yet


def _with_line(
    arguments: argparse.Namespace, setup: Setup, networks: Networks, dialogue: Dialogue | None
) -> Setup:
    """Let a way out follow the role if both routers share its line; a person is asked."""
    name = arguments.one_line
    candidates = () if arguments.no_track else uplinks(setup.shared, networks)
    if name is None and dialogue is not None:
        for one in candidates:
            network = network_text(arguments.network_config)
            if port_of(network, one) and ask_for_line(dialogue, one, proto_of(network, one)):
                name = one
                break
    if name is None:
        return setup
    return with_line(setup, name, arguments.network_config)


def with_line(setup: Setup, name: str, path: str, mac: str = "") -> Setup:
    """Let the network of this name follow the role, and those with DHCPv6 on its line. SetupError.

    `path` is the router's own /etc/config/network; `mac`: what the provider sees, by default a new address.
    """
    mac = mac or bytes((2, *os.urandom(5))).hex(":")  # locally administered, of one host
    line = shared_line(name, port_of(network_text(path), name), mac)
    if setup.peer is None:
        raise SetupError("a shared line needs the channel to the other router, which knows the lease")
    return _with_ipv6(replace(setup, line=line, hostname=socket.gethostname()), path)


def _with_ipv6(setup: Setup, path: str) -> Setup:
    """Let the networks with DHCPv6 on the line follow as well: those of this router's own configuration."""
    if setup.line is None:
        return setup
    return replace(setup, also=also_on(network_text(path), setup.line.name, setup.line.interface))


def network_text(path: str) -> str:
    """Return the text of /etc/config/network."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def with_free_id(setup: Setup, wanted: int | None) -> Setup:
    """Return the set-up with a virtual router id that nobody uses there. SetupError: `wanted` is in use."""
    used = used_ids(one.network.device for one in setup.shared)
    if wanted in used:
        raise SetupError(f"the virtual router id {wanted} is taken, by {used[wanted]}: choose another --vrid")
    free = [number for number in (*range(DEFAULT_VRID, 256), *range(1, DEFAULT_VRID)) if number not in used]
    return replace(setup, virtual_router_id=wanted or free[0]) if free else setup


def _other_router(word: str, with_secret: bool) -> list[str]:
    line = f"echo {word} | tandem init --join --start"
    lines = ["", "Run this line on the other router, once tandem is installed there:", ""]
    if len(line) < SHELL_LINE:
        lines.append(f"  {line}")
    else:  # OpenWrt's shell would cut it; the terminal takes 4095 characters
        lines += ["  tandem init --join --start", "", "and paste at its question:", "", f"  {word}"]
    if with_secret:
        lines += [
            "",
            "The token in it holds the secret of this pair: whoever has it can speak for your routers.",
            "echo is a part of the shell, so no other user sees it in the list of processes. To keep it",
            "out of the shell's history too: tandem init --join --start, and paste the token there.",
        ]
    return lines


# The second router


def _join(arguments: argparse.Namespace, networks: Networks) -> int:
    if arguments.network or arguments.peer:
        raise SetupError("--join takes the networks and the peer from the token")
    if sys.stdin.isatty():
        try:
            text = getpass("Token of the other router: ")
        except EOFError:
            raise Ended from None
    else:
        text = sys.stdin.readline(token.LONGEST + 2)
    invited = token.decode(text)
    setup = accept(invited, networks, arguments.secret_file, arguments.network_config)
    config = files.verify(setup, invited.secret)
    if arguments.dry_run:
        sys.stdout.write(config)
        return DONE
    _install(arguments, setup, config, invited.secret)
    served, advertised = dhcp_here(arguments.dhcp_config)
    for one in setup.shared:
        name = one.network.name
        for wanted, names, what in (
            (one.dhcp, served, "dnsmasq gives no leases"),
            (one.ra, advertised, "nobody advertises this router to IPv6 hosts"),
        ):
            if wanted and name not in names:
                complain([f"{name}: {what} here (/etc/config/dhcp), as on the other router"])
    return _start(arguments, None)


def accept(invited: token.Invitation, networks: Networks, secret_file: str, path: str) -> Setup:
    """Return the set-up of the second router, whose /etc/config/network is at `path`. SetupError."""
    port = port_of(network_text(path), invited.line[0]) if invited.line[0] else None
    return _with_ipv6(token.accept(invited, networks, secret_file, port), path)


# Both


def _install(arguments: argparse.Namespace, setup: Setup, text: str, secret: str) -> None:
    copy = files.install(setup, text, secret, arguments.config)
    print_lines(sys.stdout, [f"{arguments.config} is written."])
    if copy:
        print_lines(sys.stdout, [f"What was there before is in {copy}."])
    if setup.line is not None:
        paths = {"network": arguments.network_config, "firewall": arguments.firewall_config}
        changed = line_command.change((setup.line,), paths, False, setup.hostname)
        what = f"network {setup.line.name} is on {setup.line.device}, which the active router has."
        lines = [f"{paths[name]} is changed: {what}" for name in changed]
        print_lines(sys.stdout, [*lines, "The way back: tandem follow release"])
        line_command.reload(changed)


def _start(arguments: argparse.Namespace, dialogue: Dialogue | None) -> int:
    """Start the service if the user wants it, and wait until it runs; otherwise print how to start it."""
    print()
    wanted = arguments.start
    if service.installed() and dialogue is not None and not wanted:
        wanted = dialogue.confirm("Start tandem on this router now?")
    if not wanted:
        script = service.INIT_SCRIPT
        print_lines(sys.stdout, [f"To start it here: {script} enable; {script} restart"])
        return DONE
    if problems := service.start(arguments.config, arguments.control):
        complain(problems)
        return FAILED
    print_lines(sys.stdout, ["tandem runs here: tandem status, and tandem doctor when both routers run"])
    return DONE
