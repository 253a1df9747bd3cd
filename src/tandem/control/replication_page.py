# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of `tandem conntrack`: the state of connection replication as text, pure (see `page`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tandem.console import printable
from tandem.control.page import ALARM, NOTE, Page, counted, counters, duration
from tandem.control.step import step

Status = Mapping[str, Any]

_COLOURS = {"in step": "1;32", "idle": "36", "out of step": "1;31", "down": "1;31"}


def render_replication(status: Status, width: int = 80, colour: bool = False) -> str:
    """Return the result of the `conntrack` command in lines of at most `width` columns.

    Raises KeyError or TypeError when another version has made the status.
    """
    page = Page(width, colour)
    peers, events = status["channel"]["peers"], status["events"]
    sends = "streamed" if status["channel"]["streaming"] else "not streamed: this router is not active"
    page.lines.append(page.bold("conntrack_sync"))
    page.row("stale", status["stale"], ALARM)
    page.row("own", [f"{_number(status['own'])} entries", sends])
    held = sum(status["held"].values())
    page.row("held", [f"{_number(held)} entries of peers, at most {_number(status['limit_entries'])}"])
    page.row("events", _events(events))
    page.row("told", _classes(status.get("sync_after", 0)))
    trouble = {
        "overruns": events["overruns"],
        "unreadable": events["unreadable"],
        **{f"no room for {name}": number for name, number in status["overflow"].items()},
    }
    page.row("lost", counters(trouble), NOTE)
    page.row("listening", status["channel"]["listening"] or ["nowhere"])
    page.row("channel", counters(status["channel"]["counters"]))
    page.row("kernel", _kernel(status.get("kernel")))
    if gate := status.get("gate"):
        page.row("guarantee", _gate(gate), ALARM if gate["trouble"] else "")
    _restore(page, status)
    for peer in peers:
        page.lines.append("")
        _peer(page, peer, status["held"].get(peer["name"], 0))
    return "\n".join(page.lines) + "\n"


def _classes(sync_after: int) -> Iterator[str]:
    """Yield which flows are sent to peers, and when."""
    if not sync_after:
        yield "all flows at once"
        return
    yield "TCP when it is answered"
    yield f"UDP and ICMP after {sync_after} s"
    yield "UDP port forwards and flows of helpers at once"


def _events(events: Status) -> Iterator[str]:
    yield f"{_number(events['received'])} received"
    yield f"{_number(events['last_second'])} in the last second"
    yield f"{_number(events['filtered'])} filtered here"


def _kernel(kernel: Status | None) -> Iterator[str]:
    """Yield how many of the held entries a backup's kernel has."""
    if kernel is None:
        return
    if not kernel["whole"]:
        yield "does not have what is held yet"
    elif kernel["waiting"]:
        yield f"{_number(kernel['waiting'])} entries behind what is held"
    else:
        yield "has what is held"
    yield from counters({name: kernel[name] for name in ("refused", "kept", "forgotten")})


def _gate(gate: Status) -> Iterator[str]:
    """Yield the figures of the gate, which holds the first answers of connections."""
    yield f"gate {gate['state']}"
    yield f"{_number(gate['acked'])} held until a peer knew them"
    latency = gate["latency_us"]
    yield f"for {_ms(latency['p50'] / 1000)} (at most {_ms(latency['max'] / 1000)})"
    if gate["unkept"]:
        why = counters({name: gate[name] for name in ("timed_out", "overload", "lost", "limited")})
        yield f"not kept for {_number(gate['unkept'])} ({', '.join(why)})"
    yield from gate["trouble"]


def _restore(page: Page, status: Status) -> None:
    steps = status["restore_steps"]
    if not steps:
        page.row("restore", ["none yet"])
        return
    total = sum(item["entries"] for item in steps)
    spent = sum(item["ms"] for item in steps)
    ago = f"{duration(status['restored_s'])} ago"
    page.row("restore", [f"{_number(total)} entries in {_ms(spent)}", ago])
    for number, item in enumerate(steps, 1):
        results = {name: item[name] for name in ("updated", "replaced", "clashed", "failed")}
        results["without helper or master"] = item["alone"]
        page.row(
            f"  step {number}",
            [
                f"{_number(item['entries'])} entries in {_ms(item['ms'])}",
                f"at most {_ms(item['longest_step_ms'])} at a time",
                "in advance" if item["speculative"] else "",
                *counters(results),
            ],
        )
        page.row("  errors", counters(item["errors"]), ALARM)


def _peer(page: Page, peer: Status, held: int) -> None:
    word = step(peer)
    up = peer["state"] == "up"
    session = f"for {duration(peer['up_ms'] / 1000)}" if up else "no session"
    page.title(printable(peer["name"]), word, _COLOURS[word], session)
    if up:
        page.row(
            "path",
            [
                peer["path"] + ("" if peer["preferred"] else " (not the preferred one)"),
                f"to {peer['router_id']}" if peer["router_id"] else "",
                "authenticated" if peer["authenticated"] else "NOT AUTHENTICATED",
                f"round trip {_ms(peer['rtt_ms'])}",
            ],
        )
        if peer["streaming"]:
            page.row(
                "lag",
                [
                    f"{_number(peer['lag_records'])} records",
                    f"{_ms(peer['lag_ms'])} (at most {_ms(peer['lag_max_ms'])})",
                    f"{size(peer['queued_bytes'])} queued",
                    "in a bulk" if peer["in_bulk"] else "",
                ],
            )
    page.row("held", [f"{_number(held)} entries for it"])
    totals = peer["totals"]
    resyncs = {
        name.removeprefix("resync_"): number for name, number in totals.items() if name.startswith("resync_")
    }
    why = ", ".join(counters(resyncs))
    page.row("resyncs", [f"{peer['resyncs']} ({why})" if why else str(peer["resyncs"])])
    shown = ("dropped", "oversized", "coalesced", "bulks", "drifts")
    page.row("records", counters({name: totals.get(name, 0) for name in shown}))
    sent, received = (size(totals.get(name, 0)) for name in ("bytes_out", "bytes_in"))
    page.row("traffic", [f"{sent} sent", f"{received} received", counted(peer["sessions"], "session")])
    page.row("last error", [peer["last_error"]], NOTE)


def size(number: int) -> str:
    """Return bytes in a unit that leaves at most four digits."""
    if number < 10_000:
        return f"{number} bytes"
    if number < 10_000_000:
        return f"{number / 1e3:.0f} kB"
    return f"{number / 1e6:.0f} MB" if number < 1e10 else f"{number / 1e9:.0f} GB"


def _number(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _ms(number: float) -> str:
    return f"{number:.1f} ms" if number < 999.95 else duration(number / 1000)
