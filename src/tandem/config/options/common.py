# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows that several sections have, and the reasons for which options of keepalived are refused."""

from __future__ import annotations

from typing import Any

from tandem.config.option import FIRST, NEXT, NoEffect, Option, Refused, Table
from tandem.config.syntax.track import write_track
from tandem.config.values import COMMAND, NAME, Kind, seconds, whole

REFERENCE = Kind("the name of a section, or a text in keepalived.conf's syntax", str, type="reference")
VERSION = Kind(
    "2 or 3", lambda text: {"2": 2, "3": 3}.get(text) or _refuse(), type="choice", choices=("2", "3")
)

NO = Refused("not supported")
NO_MAIL = Refused("not supported: Tandem sends no mail; use a notify script")
NO_LVS = Refused("not supported: Tandem balances with nftables, not with LVS")
NO_BFD = Refused("not supported: Tandem does no BFD; use a track_script or a short advert_int")
NO_FILE = Refused("not supported: use a check of kind file or process")
NETLINK = NoEffect("no effect: link state always comes from netlink")

_GARP_SECONDS = seconds("0", "86400")


def _refuse() -> int:
    raise ValueError


def name(text: str, field: str | None = None) -> Option:
    """The row of a section's name."""
    return Option(NAME, None, f"{text} Default: the section's name.", field)


def garp(prefix: str) -> Table:
    """The rows of gratuitous ARP: of an instance, and with prefix `vrrp_` the defaults of all instances."""

    def row(kind: Kind, default: str | None, help: str, field: str) -> Option:
        if prefix:
            return Option(kind, default, f"{help} This is the default of all instances.")
        return Option(kind, None, help, f"garp.{field}")

    rows = {
        "garp_master_delay": row(
            _GARP_SECONDS,
            "5",
            "The second burst of gratuitous ARP follows so long after a takeover; 0: no second burst.",
            "delay_ms",
        ),
        "garp_master_repeat": row(
            whole(1, 1000), "5", "A burst of gratuitous ARP has so many packets for each address.", "repeat"
        ),
        "garp_master_refresh": row(
            _GARP_SECONDS,
            "0",
            "The MASTER repeats gratuitous ARP in this interval; 0: it does not.",
            "refresh_ms",
        ),
        "garp_master_refresh_repeat": row(
            whole(1, 1000), "1", "A repeated burst has so many packets for each address.", "refresh_repeat"
        ),
        "garp_lower_prio_delay": row(
            _GARP_SECONDS,
            None,
            "The second burst follows an advert of lower priority so late. Default: garp_master_delay.",
            "lower_prio_delay_ms",
        ),
        "garp_lower_prio_repeat": row(
            whole(0, 1000),
            None,
            "A burst after an advert of lower priority has so many packets. Default: garp_master_repeat.",
            "lower_prio_repeat",
        ),
    }
    return {prefix + key: entry for key, entry in rows.items()}


NOTIFY: Table = {
    "notify_master": Option(COMMAND, None, "The command runs when this becomes MASTER.", "notify.master"),
    "notify_backup": Option(COMMAND, None, "The command runs when this becomes BACKUP.", "notify.backup"),
    "notify_fault": Option(COMMAND, None, "The command runs when this becomes FAULT.", "notify.fault"),
    "notify_stop": Option(COMMAND, None, "The command runs when the daemon stops.", "notify.stop"),
    "notify_master_rx_lower_pri": Option(
        COMMAND,
        None,
        "The command runs when a router of lower priority was MASTER too and this one has stayed MASTER.",
        "notify.master_rx_lower_pri",
        since=NEXT,
    ),
    "notify": Option(
        COMMAND,
        None,
        "The command runs on each of these changes; it gets INSTANCE or GROUP, name, state and priority as"
        " further arguments.",
        "notify.any",
    ),
    "notify_deleted": NO,
    "notify_priority_changes": NO,
    "smtp_alert": NO_MAIL,
}


def _track(kind: str, what: str, sections: str, example: str, since: str = FIRST) -> Option:
    def shown(found: Any) -> list[str]:
        return [write_track(track) for track in found.tracks if track.kind == kind]

    return Option(
        REFERENCE,
        None,
        f"{what} whose state counts: {sections}, or '{example} [weight N] [reverse]'. Weight 0: down is a"
        " fault.",
        shown=shown,
        many=True,
        since=since,
    )


TRACKS: Table = {
    "track_interface": _track("interface", "Interfaces", "track_interface sections", "eth0"),
    "track_script": _track("script", "Scripts", "track_script sections", "ping"),
    "track_check": _track("check", "Checks", "check sections", "web", NEXT),
    "track_internet": _track("internet", "Ways out", "internet sections", "uplink", NEXT),
    "track_file": NO_FILE,
    "track_process": NO_FILE,
    "track_bfd": NO_BFD,
}
