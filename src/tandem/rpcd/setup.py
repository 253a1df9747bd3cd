# SPDX-License-Identifier: GPL-2.0-or-later
"""Methods of `tandem.commands` that set a router up: the questions and the answers of `tandem init`.

Problems are sentences by the field that they belong to: "network.NAME", "peer", "line", "vrid", "token", or
"" for the whole.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from typing import Any

from tandem.places import DEFAULT_ADVERT_INT, DEFAULT_VRID
from tandem.plan.requirement import problem as missing
from tandem.programs import PATH
from tandem.rpcd.request import Request
from tandem.setup import files, line_command, service, steps, token
from tandem.setup.dialogue import provided, taken
from tandem.setup.line import port_of, proto_of
from tandem.setup.networks import Networks
from tandem.setup.pair import (
    Setup,
    SetupError,
    Shared,
    peer_problem,
    propose_address,
    propose_peer,
    share,
    uplinks,
)

Problems = dict[str, list[str]]

UQR = "/www/luci-static/resources/uqr.js"  # LuCI's module for QR codes; not every release has it
MOST_NETWORKS = 8  # each is asked for a second


def networks(request: Request) -> dict[str, Any]:
    """Return what this router knows, with a proposal for each question."""
    known = steps.known_networks(request.files.network)
    text = steps.network_text(request.files.network)
    served, advertised = steps.dhcp_here(request.files.dhcp)
    rows = []
    for network in known.static:
        proposal = propose_address(network)
        rows.append(
            {
                "name": network.name,
                "device": network.device,
                "addresses": list(map(str, network.addresses)),
                "gateway": network.gateway,
                "proposal": proposal,
                "peer": propose_peer([Shared(network, (proposal,))]),
                "dhcp": network.name in served and not network.gateway,
                "ra": network.name in advertised and not network.gateway,
            }
        )
    return {
        "networks": rows,
        "others": [{"name": name, "proto": proto} for name, proto in known.others],
        "uplinks": list(known.uplinks),
        "lines": [
            {"name": name, "proto": proto_of(text, name)} for name in known.uplinks if port_of(text, name)
        ],
        "uqr": os.path.exists(UQR),
        "in_use": files.in_use(request.files.config) is not None,
        "vrid": DEFAULT_VRID,
        "advert_int": DEFAULT_ADVERT_INT,
    }


def draft(request: Request) -> dict[str, Any]:
    """Return the configuration that the answers make, or their problems; nothing is written."""
    known = steps.known_networks(request.files.network)
    setup, problems = _setup(request, known)
    if setup is None:
        return {"problems": problems}
    try:
        text = files.verify(setup, files.new_secret() if setup.peer else "")
    except SetupError as error:
        return {"problems": {"": list(error.problems)}}
    if why := missing():
        return {"problems": {"": [why]}}
    notes = [provided(setup.uplinks)] if setup.uplinks else []
    if setup.line is not None:
        where = f"network {setup.line.name} will be on {setup.line.device}, which the active router has"
        notes = [f"{where} (/etc/config/network, /etc/config/firewall); the way back: tandem follow release"]
    mac = setup.line.mac if setup.line is not None else ""
    return {"config": text, "vrid": setup.virtual_router_id, "mac": mac, "notes": notes}


def write(request: Request) -> dict[str, Any]:
    """Write the configuration that the answers make, start the service, and return the other one's token."""
    if why := _in_use(request):
        return {"problems": {"": [why]}}
    known = steps.known_networks(request.files.network)
    setup, problems = _setup(request, known)
    if setup is None:
        return {"problems": problems}
    secret = files.new_secret() if setup.peer else ""
    try:
        text = files.verify(setup, secret)
    except SetupError as error:
        return {"problems": {"": list(error.problems)}}
    word = token.encode(token.invitation(setup, known, secret))
    return {**_install(request, setup, text, secret), "token": word}


def join(request: Request) -> dict[str, Any]:
    """Be the second router: check the other router's token, and with `write` install and start it."""
    known = steps.known_networks(request.files.network)
    try:
        invited = token.decode(request.text("token", token.LONGEST + 512))
        setup = steps.accept(invited, known, request.files.secret, request.files.network)
        text = files.verify(setup, invited.secret)
    except SetupError as error:
        return {"problems": {"token": list(error.problems)}}
    if why := missing():
        return {"problems": {"": [why]}}
    served, advertised = steps.dhcp_here(request.files.dhcp)
    notes = [
        f"{one.network.name}: {what} here (/etc/config/dhcp), as on the other router"
        for one in setup.shared
        for wanted, names, what in (
            (one.dhcp, served, "dnsmasq gives no leases"),
            (one.ra, advertised, "nobody advertises this router to IPv6 hosts"),
        )
        if wanted and one.network.name not in names
    ]
    if not request.switch("write"):
        return {"config": text, "peer": setup.peer, "notes": notes}
    if why := _in_use(request):
        return {"problems": {"": [why]}}
    return {**_install(request, setup, text, invited.secret), "notes": notes}


def _in_use(request: Request) -> str | None:
    """Return why the configuration must not be replaced unless the user insists."""
    if request.switch("force") or files.in_use(request.files.config) is None:
        return None
    return "this router is set up already: its configuration is in use"


def _setup(request: Request, known: Networks) -> tuple[Setup | None, Problems]:
    """Return the set-up that the answers give, or the problems of each field."""
    look = not request.switch("force")  # otherwise the running pair itself would be found
    problems: Problems = {}
    shared: list[Shared] = []
    items = request.items("networks")
    if not items:
        problems["networks"] = ["choose at least one network"]
    if len(items) > MOST_NETWORKS:
        problems["networks"] = [f"choose at most {MOST_NETWORKS} networks"]
        items = []
    for item in items:
        name, _, words = item.partition("=")
        try:
            one = share(known, name, words.replace(",", " ").split() or [""])
        except SetupError as error:
            problems[f"network.{name}"] = list(error.problems)
            continue
        shared.append(one)
        if look and (sentences := taken(one.network, one.addresses)):
            problems[f"network.{name}"] = sentences
    peer = request.text("peer") if request.switch("sync", True) else ""
    if request.switch("sync", True) and shared and (problem := peer_problem(shared, known, peer)):
        problems["peer"] = [problem]
    if problems:
        return None, problems
    setup = Setup(
        tuple(shared),
        peer.split("/")[0] or None,
        virtual_router_id=request.number("vrid", DEFAULT_VRID, 0, 255) or DEFAULT_VRID,
        advert_int=request.text("advert_int", 16) or DEFAULT_ADVERT_INT,
        secret_file=request.files.secret,
    )
    setup = steps.with_dhcp(setup, request.files.dhcp)
    if name := request.text("line", 64):
        try:
            setup = steps.with_line(setup, name, request.files.network, request.text("mac", 17))
        except SetupError as error:
            return None, {"line": list(error.problems)}
    names = () if setup.line else uplinks(setup.shared, known)
    if names and request.switch("track", True):
        setup = replace(setup, uplinks=names)
    if look:
        try:
            setup = steps.with_free_id(setup, request.number("vrid", 0, 0, 255) or None)
        except SetupError as error:
            return None, {"vrid": list(error.problems)}
    return setup, {}


def _install(request: Request, setup: Setup, text: str, secret: str) -> dict[str, Any]:
    copy = files.install(setup, text, secret, request.files.config)
    if setup.line is not None:
        paths = {"network": request.files.network, "firewall": request.files.firewall}
        line_command.reload(line_command.change((setup.line,), paths, False, setup.hostname))
    started = service.installed()
    if started:
        # A daemon that runs takes a while to stop: whoever waits for this answer asks for the status then.
        environment = {"PATH": PATH}
        subprocess.run([service.INIT_SCRIPT, "enable"], check=False, env=environment, capture_output=True)
        null = subprocess.DEVNULL
        subprocess.Popen(
            [service.INIT_SCRIPT, "restart"],
            stdin=null, stdout=null, stderr=null, env=environment, start_new_session=True,
        )  # fmt: skip
    return {"config": text, "copy": copy, "started": started, "file": os.path.abspath(request.files.config)}
