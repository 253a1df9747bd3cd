# SPDX-License-Identifier: GPL-2.0-or-later
"""nginx on two routers, one address: it leaves a router that dies, and one whose nginx dies or hangs.

    make demo ARGS="--example nginx"

The same is done with keepalived. Both look at nginx by a request: Tandem with `config check`, keepalived with
a vrrp_script that runs curl. A client asks for a page every 10 ms, each time on a new connection; the outage
is the longest time between two pages.
"""

from __future__ import annotations

import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tandem.services import record
from tests.lab import Daemon, Instance, Keepalived, LanLab, Router, Tandem, process, wait_until
from tests.lab.scenario import keepalived_conf, tandem_uci

ADDRESS = "192.168.1.20"
V1 = Instance("V1", "eth0", 51, (f"{ADDRESS}/24",), advert_s=1.0, version=3)
PATIENCE = 30.0  # s
CONFIG = """daemon off; master_process off; pid {run}.pid; error_log {run}.error;
events {{}}
http {{
    access_log off; client_body_temp_path {run}.body; proxy_temp_path {run}.proxy;
    fastcgi_temp_path {run}.fast; uwsgi_temp_path {run}.uwsgi; scgi_temp_path {run}.scgi;
    server {{ listen 80; return 200 "{name}\\n"; }}
}}
"""
TANDEM = """
config service 'nginx'
	option command '/usr/sbin/nginx -c {config}'
	option where 'everywhere'
	option stop_timeout '1'

config check 'page'
	option kind 'http'
	option host '127.0.0.1'
	option interval '0.2'
	option timeout '0.5'
	option fall '2'
"""
KEEPALIVED = """
vrrp_script page {
  script "/usr/bin/curl -sf -m 1 -o /dev/null http://127.0.0.1/"
  interval 1
  timeout 1
  fall 2
  rise 1
}
"""


class TandemNginx(Tandem):
    """tandemd, which starts nginx on both routers and checks it."""

    def write(self, router: Router) -> None:
        write_nginx(router)
        number = int(router.name[1:])
        peer = f"\nconfig peer 'r{3 - number}'\n\tlist address '192.168.1.{4 - number}'\n"
        secret = "\toption secret 'of the lab, and of nothing else'\n"
        services = TANDEM.format(config=router.file("nginx"))
        self.text = tandem_uci(self.instances) + peer + secret + services
        super().write(router)


class KeepalivedNginx(Keepalived):
    """keepalived, beside which the router starts nginx."""

    def write(self, router: Router) -> None:
        write_nginx(router)
        text = keepalived_conf(self.instances)
        self.text = text.replace("vrrp_instance", f"{KEEPALIVED}vrrp_instance", 1)  # which must know it
        super().write(router)
        start_nginx(router)


def write_nginx(router: Router) -> None:
    router.file("nginx").write_text(CONFIG.format(run=router.file("run"), name=router.name))


def start_nginx(router: Router) -> None:
    """Start nginx as a router's init would, unless it runs."""
    if not nginx(router):
        router.popen("/usr/sbin/nginx", "-c", str(router.file("nginx")))


def nginx(router: Router) -> int:
    """The process id of a router's nginx; 0: it does not run."""
    file = router.file("run.pid")
    pid = int(file.read_text() or 0) if file.exists() else 0
    return pid if pid and record.started(pid) is not None else 0


def daemon(kind: str, priority: int) -> Daemon:
    if kind == "tandemd":
        tracked: dict[str, str | tuple[str, ...]] = {"track_check": ("page",)}
        return TandemNginx([replace(V1, priority=priority, options=tracked)])
    return KeepalivedNginx([replace(V1, priority=priority, keepalived=("track_script {", "  page", "}"))])


def page_of(address: str, timeout: float) -> str | None:
    """Return the page of nginx, which is its server's name; None: there is no answer."""
    try:
        with socket.create_connection((address, 80), timeout) as sock:
            sock.settimeout(timeout)
            sock.send(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while part := sock.recv(1000):
                answer += part
    except OSError:
        return None
    return answer.split()[-1].decode() if answer.startswith(b"HTTP/1.1 200") else None


class Client:
    """Asks for the page with a `pause` in between; `pages` has the time and the server of each answer."""

    def __init__(
        self, lab: LanLab, address: str = ADDRESS, pause: float = 0.01, timeout: float = 0.3
    ) -> None:
        """Times are in s."""
        self.pages: list[tuple[float, str]] = []
        self._address, self._pause, self._timeout = address, pause, timeout
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: lab.client.enter(self._ask), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._ends.set()
        self._thread.join(5)

    def _ask(self) -> None:
        while not self._ends.wait(self._pause):
            if (server := page_of(self._address, self._timeout)) is not None:
                self.pages.append((time.monotonic(), server))

    def outage(self, began: float) -> float:
        """The longest time between two pages since `began`, ms; the page before that counts."""
        times = [when for when, _ in self.pages]
        first = max((number for number, when in enumerate(times) if when < began), default=0)
        return max(
            1000 * (after - before) for before, after in zip(times[first:], times[first + 1 :], strict=False)
        )

    def served(self, name: str) -> bool:
        """Whether the last page is that of this server."""
        return bool(self.pages) and self.pages[-1][1] == name


@dataclass(frozen=True)
class Row:
    """What happened, and the outage, ms."""

    what: str
    outage: float


def acts(lab: LanLab, client: Client, kind: str) -> Iterator[Row]:
    """Do the acts; r1 is preferred."""
    r1 = lab.routers[0]

    def act(what: str, action: Callable[[], None], server: str) -> Row:
        began = time.monotonic()
        action()
        wait_until(
            lambda: client.served(server) and time.monotonic() > began + 1, PATIENCE, what, explain=lab.logs
        )
        return Row(what, client.outage(began))

    def heal(router: Router) -> None:
        if kind == "keepalived":
            start_nginx(router)
        wait_until(lambda: client.served("r1"), PATIENCE, "r1 serves again", explain=lab.logs)

    def signal_nginx(number: signal.Signals) -> None:
        process.send_signal([nginx(r1)], number)

    yield act("r1 loses power", r1.power_off, "r2")
    yield act("r1 boots again", r1.power_on, "r1")
    yield act("r1's nginx hangs", lambda: signal_nginx(signal.SIGSTOP), "r2")
    signal_nginx(signal.SIGCONT)
    heal(r1)
    # keepalived starts no nginx; with Tandem it may be back before the address has moved.
    by = "r2" if kind == "keepalived" else "r1"
    yield act("r1's nginx dies", lambda: signal_nginx(signal.SIGKILL), by)
    heal(r1)
    r1.file("nginx").write_text("nonsense\n")
    yield act("it dies for good", lambda: signal_nginx(signal.SIGKILL), "r2")
    assert not r1.has(ADDRESS), "the address has left a router that lives"


def known(lab: LanLab) -> bool:
    """Whether every tandemd hears the heartbeats of the other one."""
    return all(
        peer["heartbeats"] is not None and peer["heartbeats"]["state"] == "alive"
        for router in lab.routers
        if isinstance(router.daemon, Tandem)
        for peer in Tandem.request(router, "status")["peers"]
    )


@contextmanager
def running(kind: str) -> Iterator[tuple[LanLab, Client]]:
    """Two routers with nginx, and a client that asks."""
    with LanLab([daemon(kind, 150), daemon(kind, 100)], "example") as lab:
        lab.up()
        lab.start()
        client = Client(lab)
        try:
            wait_until(lambda: client.served("r1"), PATIENCE, "r1 serves", explain=lab.logs)
            wait_until(lambda: known(lab), PATIENCE, "the routers know each other", explain=lab.logs)
            yield lab, client
        finally:
            client.close()


def main(write: Callable[[str], None] = print) -> int:
    """Play with both daemons, and print the table."""
    kinds = ["tandemd", *(["keepalived"] if shutil.which("keepalived") else [])]
    table: dict[str, dict[str, float]] = {}
    for kind in kinds:
        write(f"{kind}: nginx on r1 and r2, a client at http://{ADDRESS}/")
        with running(kind) as (lab, client):
            for row in acts(lab, client, kind):
                table.setdefault(row.what, {})[kind] = row.outage
                write(f"  {row.what}: no page for {row.outage:.0f} ms")
    write("")
    write(f"  {'outage':<20}" + "".join(f"{kind:>14}" for kind in kinds))
    for what, outages in table.items():
        write(f"  {what:<20}" + "".join(f"{outages[kind]:>11.0f} ms" for kind in kinds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
