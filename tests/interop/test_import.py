# SPDX-License-Identifier: GPL-2.0-or-later
"""Imported configurations beside the real keepalived that reads the original.

Twice: keepalived says what it makes of each file of the corpus (--dump-conf), which must be what Tandem
makes of the import; and of some, keepalived on one router and tandemd on the other elect each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, reject, settings

from tandem.config.load import load_text
from tandem.config.schema import Config
from tandem.control import cli
from tandem.importer import convert, keepalived, sources
from tandem.importer.draft import Draft
from tests.lab import Daemon, Host, Keepalived, Lab, LanLab, Port, SeedLab, Tandem, wait_until
from tests.lab import Instance as Expected
from tests.lab.topology import KEEPALIVED_NAT, SYNC_GROUP, seed_instances

from .keepalived_dump import Refused, ask, compared, view
from .keepalived_texts import texts
from .lan import needs, settled, undisturbed

pytestmark = needs("keepalived")

DATA = Path(__file__).parents[1] / "unit/data/import"
CORPUS = [*sorted((DATA / "corpus").glob("*.conf")), *sorted(DATA.glob("keepalived*.conf"))]
DEVICES = ("eth0", "eth1", "eth2", "br-lan", "eth0.2")


def imported(path: Path, config_id: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The result of `tandem import` for a file."""
    assert cli.main(["import", "--id", config_id, str(path)]) == 0
    return capsys.readouterr().out


# The result of keepalived ------------------------------------------------------------------


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A machine with every interface that the corpus names."""
    with Lab("import") as lab:
        ports = [Port(device, lab.switch(f"sw{number}")) for number, device in enumerate(DEVICES)]
        host = lab.add(Host("host", ports))
        lab.up()
        yield host


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_tandem_makes_of_it_what_keepalived_makes(
    path: Path, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    config: Config | None = load_text(imported(path, "r1", capsys), "imported").config
    assert config is not None
    assert compared(view(config), ask(host, path).view()) == []


# Each word of a route and of a rule twice, also by its other name.
REPEATED = """
vrrp_instance V0 {
 interface eth0
 virtual_router_id 1
 virtual_ipaddress {
  10.0.0.5/24
 }
 virtual_routes {
  10.9.0.0/16 via 10.0.0.1 via 10.0.0.2 dev eth0
  10.9.1.0/24 dev eth0 oif eth1 metric 5 priority 6 table 100 lookup 101
  10.9.2.0/24 to 10.8.0.0/16 dev eth0 mtu 1000 mtu 1200 src 10.0.0.5 src 10.0.0.6 tos 4 dsfield 8
 }
 virtual_rules {
  iif eth0 dev eth1 table 100
  from 10.0.0.0/8 from 11.0.0.0/8 to 10.0.0.0/8 to 12.0.0.0/8 table 100
  oif eth0 oif eth1 fwmark 1 fwmark 2 tos 4 dsfield 8 table 100
  from 10.0.0.0/8 priority 10 preference 20 sup_pl 1 suppress_prefixlength 2 table 100
  from 10.0.0.0/8 table 100 lookup 101
 }
}
"""


@given(texts())
@example(REPEATED)
@settings(max_examples=settings.default.max_examples // 3, suppress_health_check=list(HealthCheck))
def test_of_any_text(host: Host, text: str) -> None:
    """Both read a generated file alike; HYPOTHESIS_PROFILE=hunt generates many more."""
    path = host.file("any.conf")
    path.write_text(text)
    try:
        dump = ask(host, path)
    except Refused:
        reject()
    draft = Draft()
    convert.convert(keepalived.parse(text, "any.conf"), draft, sources.surroundings(""))
    errors = draft.settle()
    assert not errors and draft.config is not None, errors
    assert compared(view(draft.config), dump.view()) == []


# Both on one LAN --------------------------------------------------------------------------------


class WithId(Keepalived):
    """keepalived that reads a file for the router of its own name."""

    def commands(self, router: Any) -> list[list[str]]:
        return [[*argv, f"--config-id={router.name}"] for argv in super().commands(router)]


ROLES = pytest.mark.parametrize("tandem", ["r1", "r2"], ids=["tandem_active", "keepalived_active"])
PAIRS = {
    "conditions": [Expected("V1", "eth0", 51, ("192.168.1.4/24",), advert_s=0.1)],
    "ipv6": [Expected("V6", "eth0", 52, ("fe80::1:4/64", "fd00:1::4/64"), advert_s=0.1)],
    "vmac": [Expected("V", "eth0", 51, ("192.168.1.4/24",), advert_s=0.1)],
}


@pytest.mark.parametrize(
    ("name", "tandem"),
    [("conditions", "r1"), ("conditions", "r2"), ("ipv6", "r1"), ("vmac", "r2")],
)
def test_a_mixed_pair_elects_and_fails_over(
    name: str,
    tandem: str,
    open_lab: Callable[[LanLab], LanLab],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = DATA / "corpus" / f"{name}.conf"

    def daemon(router: str) -> Daemon:
        if router == tandem:
            return Tandem(PAIRS[name], text=imported(path, router, capsys))
        return WithId(PAIRS[name], text=path.read_text())

    lab = open_lab(LanLab([daemon("r1"), daemon("r2")]))
    better, other = lab.routers
    lab.start()
    settled(lab, better, [other])
    better.power_off()
    settled(lab, other, [])
    better.power_on()
    settled(lab, better, [other])
    undisturbed(better, other)


@ROLES
def test_strict_mode_agrees(
    tandem: str, open_lab: Callable[[LanLab], LanLab], capsys: pytest.CaptureFixture[str]
) -> None:
    """Strict mode answers no ping: only who is active is looked at."""
    path = DATA / "corpus/strict.conf"
    expected = [Expected("V", "eth0", 51, ("192.168.1.4/24",), advert_s=0.1)]
    daemons: list[Daemon] = []
    for router in ("r1", "r2"):
        if router == tandem:
            daemons.append(Tandem(expected, text=imported(path, router, capsys)))
        else:
            daemons.append(WithId(expected, text=path.read_text()))
    lab = open_lab(LanLab(daemons))
    better, other = lab.routers
    lab.start()
    wait_until(lambda: lab.active is better and other.all_in("BACKUP"), 12, "the better one is active")
    better.power_off()
    wait_until(lambda: lab.active is other and other.all_in("MASTER"), 12, "the other one takes over")
    assert "0 received" in lab.client.exec("ping", "-c1", "-W1", "192.168.1.4", check=False)


def test_the_seed_on_a_mixed_pair(
    open_lab: Callable[[SeedLab], SeedLab], capsys: pytest.CaptureFixture[str]
) -> None:
    """keepalived with the seed's file on r1, tandemd with the import of it on r2: each follows the other."""
    path = DATA / "keepalived.conf"
    daemons: dict[int, Daemon] = {
        1: Keepalived(seed_instances(), SYNC_GROUP, text=path.read_text(), nft=KEEPALIVED_NAT),
        2: Tandem(seed_instances(), SYNC_GROUP, text=imported(path, "r2", capsys)),
    }
    lab = open_lab(SeedLab(daemons.__getitem__))
    first, second = lab.routers
    first.start()
    wait_until(lambda: lab.active is first, 15, "keepalived is active", explain=lab.logs)
    second.start()
    for active, other in ((first, second), (second, first)):
        wait_until(lambda: other.all_in("BACKUP"), 15, "the other one is backup", explain=lab.logs)  # noqa: B023
        assert lab.active is active, "nopreempt"
        undisturbed(first, second)
        active.power_off()
        wait_until(lambda: lab.active is other, 15, "it takes over both networks", explain=lab.logs)  # noqa: B023
        active.power_on()
