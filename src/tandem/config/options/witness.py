# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the section `witness`, and of the options of `globals` that belong to it."""

from __future__ import annotations

from tandem.config import sync_values
from tandem.config.option import NEXT, Option, Table
from tandem.config.options.common import name
from tandem.config.values import ADDRESS, SWITCH, choice, seconds, whole

WITNESS: Table = {
    "name": name("Status and log call the witness by this name.", "name"),
    "kind": Option(
        choice("tandem", "ping", "tcp"),
        "tandem",
        "tandem: `tandem witness` on a third host, which gives its vote to one router. ping, tcp: a host that"
        " only a router with a working network reaches.",
        "kind",
        since=NEXT,
    ),
    "address": Option(ADDRESS, None, "The address of the host.", "address", required=True, since=NEXT),
    "port": Option(
        whole(1, 65535),
        None,
        "The port of the host. Default: 3781 of kind tandem.",
        "port",
        shown=lambda found: found.port or None,
        since=NEXT,
    ),
    "secret": Option(
        sync_values.SECRET,
        None,
        "The secret that the witness has too; it is better kept in a file. Routers with the same secret"
        " compete for one vote.",
        "secret",
        secret=True,
        since=NEXT,
    ),
    "secret_file": Option(
        sync_values.SECRET_FILE,
        None,
        "The file that holds this secret and that only root can read.",
        secret=True,
        since=NEXT,
    ),
    "interval": Option(
        seconds("0.1", "60"), "1", "A host is asked in this interval.", "interval_ms", since=NEXT
    ),
    "fall": Option(
        whole(1, 100),
        "3",
        "So many questions without an answer mean that the host is down.",
        "fall",
        since=NEXT,
    ),
}

WITNESS_SERVER: Table = {
    "enabled": Option(
        SWITCH,
        "0",
        "`tandem witness` answers on this host, which is none of the routers.",
        "enabled",
        since=NEXT,
    ),
    "address": Option(
        ADDRESS, None, "It answers on this address. Default: on every one.", "address", since=NEXT
    ),
    "port": Option(whole(1, 65535), "3781", "It answers on this UDP port.", "port", since=NEXT),
    "lease": Option(
        seconds("0.5", "60"),
        "1",
        "A router that is cut off loses its vote after this time, and only then another one gets it.",
        "lease_ms",
        since=NEXT,
    ),
    "secret_file": Option(
        sync_values.SECRET_FILE,
        None,
        "Each file holds a secret, and only root can read it; routers with other secrets do not compete.",
        "secret_files",
        many=True,
        since=NEXT,
    ),
}

QUORUM: Table = {
    "witness_policy": Option(
        choice("none", "advisory", "required"),
        "none",
        "required: a router without a quorum gives the role up and takes none; advisory: it only says so.",
        "witness_policy",
        since=NEXT,
    ),
    "two_node": Option(
        SWITCH,
        "0",
        "One of two votes is a quorum. A split then has two active routers unless a witness host decides.",
        "two_node",
        since=NEXT,
    ),
    "wait_for_all": Option(
        SWITCH,
        None,
        "After its start a router has no quorum until all routers were connected at once. Default: as"
        " two_node.",
        "wait_for_all",
        since=NEXT,
    ),
}
