# SPDX-License-Identifier: GPL-2.0-or-later
"""The `witness` sections, and what the options of the quorum need of them and of the peers."""

from __future__ import annotations

from collections.abc import Sequence

from tandem.config import keys
from tandem.config.read import Parsed
from tandem.config.schema import Peer, Witness, WitnessServer
from tandem.core.settings import Instance

MOST_WITNESSES = 8
PORT = 3781


def build(
    found: Sequence[Parsed], settings: Parsed, peers: Sequence[Peer], instances: Sequence[Instance]
) -> tuple[Witness, ...]:
    """Return the witnesses; `settings` is the section of globals."""
    virtual = {
        address.address: instance.name
        for instance in instances
        for address in (*instance.virtual_addresses, *instance.excluded_addresses)
    }
    witnesses: list[Witness] = []
    for parsed in found:
        if len(witnesses) == MOST_WITNESSES:
            parsed.error(f"more than {MOST_WITNESSES} witnesses")
            break
        witness = _one(parsed, witnesses)
        if witness.address in virtual:
            parsed.error(f"is a virtual address of '{virtual[witness.address]}'", "address")
        witnesses.append(witness)
    _check(settings, witnesses, len(peers))
    return tuple(witnesses)


def server(found: Sequence[Parsed]) -> WitnessServer | None:
    """Return the `witness_server` section."""
    for more in found[1:]:
        more.error(f"there is a witness_server section already, at line {found[0].line()}")
    if not found:
        return None
    settings = WitnessServer(**found[0].fields())
    if settings.enabled and not settings.secret_files:
        found[0].error("is missing: without a secret it answers nobody", "secret_file")
    return settings


def _one(parsed: Parsed, before: Sequence[Witness]) -> Witness:
    fields = parsed.fields()
    kind = fields.setdefault("kind", "tandem")
    given = [option for option in ("secret", "secret_file") if parsed.given(option)]
    if kind == "tandem":
        fields["port"] = fields.get("port") or PORT
        if any(other.kind == "tandem" for other in before):
            parsed.error("there is a witness of this kind already: two votes would decide nothing", "kind")
        if given:
            fields["secret"] = keys.single(parsed)
        else:
            parsed.error("is missing: the witness gives its vote to nobody it can't recognise", "secret")
    else:
        for option in given:
            parsed.error("has no effect: only a witness of kind tandem has a secret", option)
        if kind == "tcp" and not fields.get("port"):
            parsed.error("is missing: which port is connected to?", "port")
        if kind == "ping" and fields.get("port"):
            parsed.warn("has no effect: a ping has no port", "port")
    return Witness(
        **{"name": parsed.name, "address": ""} | {k: v for k, v in fields.items() if v is not None}
    )


def _check(settings: Parsed, witnesses: Sequence[Witness], peers: int) -> None:
    voter = any(witness.kind == "tandem" for witness in witnesses)
    policy = settings.get("witness_policy")
    if policy == "none":
        for option in ("two_node", "wait_for_all"):
            if settings.get(option):
                settings.warn("has no effect: witness_policy is none", option)
        if witnesses:
            settings.warn("is none: no witness is asked", "witness_policy")
        return
    if not peers and not witnesses:
        settings.error("needs a peer with a channel (config peer), or a witness", "witness_policy")
    if settings.get("two_node") and peers + voter != 1:
        votes = 1 + peers + voter
        settings.error(f"is for two votes; here {votes} are expected", "two_node")
    if policy == "required" and peers == 1 and not voter and not settings.get("two_node"):
        settings.warn(
            "with two routers and no witness of kind tandem no router is active without the other: add a"
            " witness, or set two_node",
            "witness_policy",
        )
