# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job on the screen: two routers share a gateway, one of them dies, and no download breaks.

    python -m tests.demo [--daemon tandemd|keepalived] [--advert SECONDS]
    python -m tests.demo --example nginx        real servers behind one address, see tests/examples
    python -m tests.demo --example services     Samba, MariaDB and NFS, which follow the address

Exit status: 0 the gateway came back every time and every download goes on, 1 not so, 2 usage,
130 Ctrl-C. keepalived alone does not replicate connections: its downloads break. On a terminal one line
lives (who is active, what the client sees) below the lines of what happened; elsewhere, plain lines.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType, TracebackType

from tests.examples import nginx, services
from tests.lab import (
    FAR,
    LAN_GATEWAY,
    WAN_ADDRESS,
    Daemon,
    Download,
    LabError,
    NotReached,
    Outage,
    Pings,
    Router,
    SeedLab,
    Service,
    Tandem,
    seed_daemon,
    synced_daemon,
)

EXAMPLES: dict[str, Callable[[], int]] = {
    "nginx": nginx.main,
    "services": lambda: services.play(services.SERVERS),
    **{name: partial(services.play, [name]) for name in services.SERVERS},
}
DOWNLOADS = 20
FRAME = 0.1  # seconds between two pictures, and of one bar of the chart
BARS = 20
COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "dim": 2, "bold": 1}
LEVELS = " ▁▂▃▄▅▆▇█"
STATE_COLOURS = {"MASTER": "green", "BACKUP": "blue"}

TOPOLOGY = f"""
                192.168.1.2      192.168.0.2
              ┌───────────── r1 ─────────────┐
   client ────┤                              ├──── provider ──── {FAR}
 192.168.1.10 ├───────────── r2 ─────────────┤    192.168.0.1
              │ 192.168.1.3      192.168.0.3 │
              └ gateway {LAN_GATEWAY}          └ source address {WAN_ADDRESS}
"""


class Screen:
    """Lines that stay, and below them one line that lives (on a terminal only)."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.colour = self.live and not os.environ.get("NO_COLOR")
        self.unicode = "utf" in (sys.stdout.encoding or "").lower()
        self.started = time.monotonic()

    def __enter__(self) -> Screen:
        if self.live:
            sys.stdout.write("\x1b[?25l")  # hide the cursor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            sys.stdout.write("\r\x1b[K\x1b[?25h")
            sys.stdout.flush()

    def paint(self, text: str, *names: str) -> str:
        """The text in colours, where there are colours."""
        if not self.colour or not names:
            return text
        return f"\x1b[{';'.join(str(COLOURS[name]) for name in names)}m{text}\x1b[0m"

    def write(self, text: str = "") -> None:
        """A line that stays."""
        if not self.unicode:
            text = text.translate(str.maketrans("┌┐└┘├┤│─→●○✗⚡µ…", "++++++|->*ox!u."))
            text = text.encode("ascii", "replace").decode()
        sys.stdout.write(("\r\x1b[K" if self.live else "") + text + "\n")
        sys.stdout.flush()

    def event(self, text: str, *colours: str) -> None:
        """Something happened."""
        seconds = time.monotonic() - self.started
        self.write(f"{self.paint(f'{seconds:6.1f} s', 'dim')}  {self.paint(text, *colours)}")

    def alive(self, text: str) -> None:
        """Replace the line that lives."""
        if self.live:
            seconds = time.monotonic() - self.started
            sys.stdout.write(f"\r\x1b[K{self.paint(f'{seconds:6.1f} s', 'dim')}  {text}")
            sys.stdout.flush()


@dataclass(frozen=True)
class Result:
    """One row of the table at the end."""

    what: str
    outage: Outage
    role: str
    back: bool
    alive: int  # downloads that go on

    @property
    def good(self) -> bool:
        """Whether nobody has reason to complain."""
        return self.back and self.alive == DOWNLOADS


class Story:
    """The acts, and what the screen shows meanwhile."""

    def __init__(self, lab: SeedLab, screen: Screen, advert_s: float) -> None:
        self.lab = lab
        self.screen = screen
        self.patience = 10 + 5 * advert_s  # how long the gateway may take to come back
        self.pings: Pings | None = None
        self.downloads: list[Download] = []
        self.roles: dict[str, str] = {}
        self.chart: deque[float] = deque(maxlen=BARS)
        self.counted = (0, 0)
        self.results: list[Result] = []

    # The picture

    def role(self, router: Router) -> str:
        """One word for a router."""
        if not router.powered:
            return "off"
        words = set(router.states().values()) if router.running else set()
        return words.pop() if len(words) == 1 else "…"

    def look(self) -> None:
        """Read the roles, tell what changed, draw the line."""
        for router in self.lab.routers:
            role = self.role(router)
            before = self.roles.get(router.name, "…")
            if role not in (before, "…"):
                self.roles[router.name] = role
                if role not in ("off", "INIT"):
                    self.screen.event(f"{router.name} is now {role}", STATE_COLOURS.get(role, "red"))
        line = "  ".join(self.light(router) for router in self.lab.routers)
        if self.pings:
            line += f"  client {self.traffic()}"
        self.screen.alive(line)

    def light(self, router: Router) -> str:
        """A router's lamp and role."""
        role = self.roles.get(router.name, "…")
        lamp = {"MASTER": "●", "BACKUP": "○"}.get(role, "✗" if role in ("off", "FAULT") else "·")
        return self.screen.paint(f"{router.name} {lamp} {role:<6}", STATE_COLOURS.get(role, "red"))

    def traffic(self) -> str:
        """The last seconds as bars, then the rate of answers or the length of the silence."""
        assert self.pings
        sent, answered = self.pings.sent, self.pings.answered
        asked, got = sent - self.counted[0], answered - self.counted[1]
        if asked > 0:
            self.counted = (sent, answered)
            self.chart.append(min(1.0, got / asked) if asked - got > 2 else 1.0)
        bars = [self.bar(share) for share in self.chart]
        silence = time.monotonic() - self.pings.until
        if silence > 3 * FRAME and self.pings.until:
            return "".join(bars) + self.screen.paint(f" {silence:4.1f} s", "red", "bold")
        return "".join(bars) + (f" {got / asked / self.pings.interval_s:4.0f}/s" if asked > 0 else "")

    def bar(self, share: float) -> str:
        """One bar: how much of that moment was answered."""
        if share == 1:
            return self.screen.paint(LEVELS[-1], "green")
        level = min(int(share * 8), 6) + 1  # never full, never invisible
        return self.screen.paint(LEVELS[level], "red" if share < 0.5 else "yellow")

    def watch(self, seconds: float, until: Callable[[], object] = lambda: False) -> bool:
        """Let the picture live until something is true (True) or the time is over (False)."""
        deadline = time.monotonic() + seconds
        while not (done := bool(until())) and time.monotonic() < deadline:
            self.look()
            time.sleep(FRAME)
        self.look()
        return done

    # The acts

    def start(self) -> bool:
        """Both routers boot and elect one; then the client starts to talk."""
        for router in self.lab.routers:
            router.start()
        routers = self.lab.routers
        self.watch(self.patience, lambda: self.lab.active or not all(router.running for router in routers))
        if not self.lab.active:
            return False
        if not self.watch(self.patience, self.in_step):
            self.screen.event("the routers do not exchange their connections", "red")
            return False
        Service(self.lab.server, "echo", FAR, "7")
        Service(self.lab.server, "source", "80")
        self.pings = pings = Pings(self.lab.client, FAR)
        self.screen.event(f"the client asks {FAR} 1000 times a second, through the gateway")
        self.downloads = [Download(self.lab.client, FAR) for _ in range(DOWNLOADS)]
        if not self.watch(self.patience, lambda: pings.until and self.going_on([0] * DOWNLOADS) == DOWNLOADS):
            return False
        self.screen.event(f"and loads {DOWNLOADS} files: on these connections only the server speaks")
        return not self.watch(2)

    def in_step(self) -> bool:
        """Whether the other router holds all connections of the active one (keepalived: no such thing)."""
        if not all(isinstance(router.daemon, Tandem) for router in self.lab.routers):
            return True
        active = self.lab.active
        if active is None:
            return False
        try:
            peers = Tandem.request(self.lab.other(active), "conntrack")["channel"]["peers"]
        except (OSError, LabError):
            return False
        return all(peer.get("peer_streaming") and peer["held_in_step"] for peer in peers)

    def going_on(self, before: list[int]) -> int:
        """How many downloads have got more bytes than before."""
        pairs = zip(self.downloads, before, strict=True)
        return sum(download.error is None and download.bytes > then for download, then in pairs)

    def act(self, what: str, action: Callable[[], None], done: Callable[[], object], *colours: str) -> bool:
        """Do something to a router, wait until answers flow again, and note the outage."""
        assert self.pings
        before = self.lab.active
        began = time.monotonic()
        action()
        goal = time.monotonic() + 0.3
        self.screen.event(what, *colours)
        pings = self.pings
        back = self.watch(self.patience, lambda: pings.until >= goal and done() and self.lab.active)
        after = self.lab.active
        outage = Outage(began, (time.monotonic() - began) * 1e3, pings.sent - pings.answered)
        if back:
            try:
                outage = pings.outage_since(began)
            except NotReached:  # answers came and went again
                back = False
        if outage.lost:
            self.screen.event(
                f"the client had no gateway for {outage.ms:.0f} ms ({outage.lost} datagrams lost)", "yellow"
            )
        elif back:
            self.screen.event("the client noticed nothing", "green")
        alive = self.told(back)
        names = [router.name if router else "none" for router in (before, after)]
        role = " → ".join(dict.fromkeys(names))
        self.results.append(Result(what, outage, role, back, alive))
        self.watch(2)
        return back

    def told(self, back: bool) -> int:
        """Wait until every download goes on, or for long enough; tell how many do."""
        before = [download.bytes for download in self.downloads]
        if back:  # TCP sends again after as long as the outage was
            hoped = self.results[-1].alive if self.results else DOWNLOADS  # what is broken stays so
            self.watch(self.patience, lambda: self.going_on(before) >= hoped)
        alive = self.going_on(before)
        text = f"{alive} of {DOWNLOADS} downloads go on"
        if alive < DOWNLOADS:
            self.screen.event(f"{text}, {DOWNLOADS - alive} are broken", "red", "bold")
        else:
            self.screen.event(text, "green")
        return alive

    def play(self) -> bool:
        """All acts; False as soon as the gateway does not come back or the routers stay out of step."""
        lab = self.lab
        if not self.start() or not (first := lab.active):
            self.screen.event("no router became active", "red")
            return False
        second = lab.other(first)
        boots = f"{first.name} boots again"
        pulled, plugged = f"WAN cable of {second.name} pulled", f"WAN cable of {second.name} back"
        return (
            self.act(f"{first.name} loses power and all cables", first.power_off, lambda: True, "red", "bold")
            and self.act(boots, first.power_on, lambda: first.all_in("BACKUP") and self.in_step(), "bold")
            and self.act(pulled, lambda: lab.cut(second, "eth0.2"), lambda: first.active, "red", "bold")
            and self.act(plugged, lambda: lab.plug(second), lambda: second.all_in("BACKUP"), "bold")
        )

    def summary(self, complete: bool) -> None:
        """The table of all acts."""
        screen = self.screen
        screen.write()
        head = f"  {'what happened':<30}{'outage':>11}{'lost':>7}{'downloads':>11}  active"
        screen.write(screen.paint(head, "bold"))
        screen.write("  " + "─" * 72)
        for row in self.results:
            word = "OK" if row.good else "BROKEN" if row.back else "LOST"
            verdict = screen.paint(word, "green") if row.good else screen.paint(word, "red", "bold")
            downloads = f"{row.alive} of {DOWNLOADS}"
            numbers = f"{row.outage.ms:>8.1f} ms{row.outage.lost:>7}{downloads:>11}"
            screen.write(f"  {row.what:<30}{numbers}  {row.role:<10}{verdict}")
        screen.write()
        if not complete:
            screen.write("  " + screen.paint("The gateway did not come back.", "red", "bold"))
            return
        alive = self.results[-1].alive
        sentence = f"The gateway came back every time; {alive} of {DOWNLOADS} downloads go on."
        screen.write("  " + screen.paint(sentence, "green" if self.good else "red", "bold"))

    @property
    def good(self) -> bool:
        """Whether every act went well."""
        return all(row.good for row in self.results)


def _terminate(number: int, _frame: FrameType | None) -> None:
    """Leave by way of every `with` block."""
    sys.exit(128 + number)


def _daemon(kind: str, number: int, advert_s: float) -> Daemon:
    return synced_daemon(number, advert_s) if kind == Tandem.name else seed_daemon(kind, advert_s)


def main() -> int:
    """Parse the command line, play, clean up."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--daemon", choices=["tandemd", "keepalived"], default="tandemd")
    parser.add_argument("--advert", type=float, default=1.0, metavar="SECONDS", help="advertisement interval")
    parser.add_argument("--example", choices=EXAMPLES, help="real servers behind one address instead")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    if options.example:
        return EXAMPLES[options.example]()
    if not shutil.which(options.daemon) and options.daemon == "keepalived":
        parser.error("keepalived is not installed")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when started in the background
    try:
        lab = SeedLab(lambda number: _daemon(options.daemon, number, options.advert), tag="demo")
        with lab, Screen() as screen:
            lab.up()
            screen.write(screen.paint(f"Two routers, one gateway: {options.daemon}", "bold"))
            screen.write(TOPOLOGY)
            screen.event(f"r1 and r2 boot; adverts every {options.advert:g} s, three missed ones are a death")
            story = Story(lab, screen, options.advert)
            complete = story.play()
            if not complete:
                screen.write(lab.logs(15))
            story.summary(complete)
        return 0 if complete and story.good else 1
    except KeyboardInterrupt:
        print("Interrupted; everything is removed.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
