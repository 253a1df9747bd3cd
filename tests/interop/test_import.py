# SPDX-License-Identifier: GPL-2.0-or-later
"""Imported configurations beside the real keepalived that reads the original.

Twice: keepalived says what it makes of each file of the corpus (--dump-conf), which must be what Tandem
makes of the import; and of some, keepalived on one router and tandemd on the other elect each other.
"""

from __future__ import annotations

import ipaddress
import re
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tandem.config.load import load_text
from tandem.config.schema import Address, Config, Instance
from tandem.config.values import decimal
from tandem.control import cli
from tests.lab import Daemon, Host, Keepalived, Lab, LanLab, Port, SeedLab, Tandem, wait_until
from tests.lab import Instance as Expected
from tests.lab.lab import open_log
from tests.lab.topology import KEEPALIVED_NAT, SYNC_GROUP, seed_instances

from .lan import needs, settled, undisturbed

pytestmark = needs("keepalived")

DATA = Path(__file__).parents[1] / "unit/data/import"
CORPUS = [*sorted((DATA / "corpus").glob("*.conf")), *sorted(DATA.glob("keepalived*.conf"))]
DEVICES = ("eth0", "eth1", "br-lan", "eth0.2")


def imported(path: Path, config_id: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `tandem import` makes of a file."""
    assert cli.main(["import", "--id", config_id, str(path)]) == 0
    return capsys.readouterr().out


# What keepalived makes of it ------------------------------------------------------------------


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A machine with every interface that the corpus names."""
    with Lab("import") as lab:
        ports = [Port(device, lab.switch(f"sw{number}")) for number, device in enumerate(DEVICES)]
        host = lab.add(Host("host", ports))
        lab.up()
        yield host


def dumped(host: Host, path: Path) -> dict[str, dict[str, Any]]:
    """keepalived's own view of the instances: for each, its lines "key = value" and its addresses."""
    files = [f"-f{path}", f"-p{host.file('pid')}", f"-r{host.file('vrrp.pid')}"]
    host.file("log").unlink(missing_ok=True)
    with open_log(host) as log:
        argv = [
            "keepalived",
            "--dont-fork",
            "--log-console",
            "--vrrp",
            "--dump-conf",
            "--config-id=r1",
            *files,
        ]
        process = host.popen(*argv, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "---< Interfaces >" in host.file("log").read_text(), 10, "keepalived's dump")
    finally:
        process.terminate()
        process.wait(10)
    text = host.file("log").read_text()
    found: dict[str, dict[str, Any]] = {}
    kind = ""
    for line in text.partition("VRRP Topology")[2].partition("---< Interfaces >")[0].splitlines():
        line = line[25:]  # behind the time
        if match := re.fullmatch(r"  VRRP Instance = (.*)", line):
            found[match[1]] = {"addresses": [], "excluded": []}
            instance = found[match[1]]
        elif match := re.fullmatch(r"    ([^=]+?)(?: = |(?<=Multicast address) )([^,]*).*", line):
            instance[match[1]] = match[2]
        elif match := re.fullmatch(r"    (\w.*?) ?(\(\d+\))? ?:", line):
            kind = {"Virtual IP": "addresses", "Virtual IP Excluded": "excluded"}.get(match[1], "")
        elif kind and (match := re.fullmatch(r"      (\S+) .*", line)):
            instance[kind].append(str(ipaddress.ip_interface(match[1])))
    return found


def in_its_words(instance: Instance) -> dict[str, Any]:
    """An instance of Tandem's as keepalived would write it down."""
    garp = instance.garp
    words = {
        "VRRP Version": str(instance.version),
        "Wantstate": "MASTER" if instance.initial_master else "BACKUP",
        "Interface": instance.use_vmac or instance.interface,
        "Virtual Router ID": str(instance.virtual_router_id),
        "Priority": str(instance.priority),
        "Advert interval": Decimal(decimal(instance.advert_int_cs, 2)),
        "Accept": "enabled" if instance.accept else "disabled",
        "Preempt": "enabled" if instance.preempt else "disabled",
        "Promote_secondaries": "enabled" if instance.promote_secondaries else "disabled",
        "Gratuitous ARP delay": decimal(garp.delay_ms, 3),
        "Gratuitous ARP repeat": str(garp.repeat),
        "Gratuitous ARP refresh": decimal(garp.refresh_ms, 3),
        "Gratuitous ARP refresh repeat": str(garp.refresh_repeat),
        "Gratuitous ARP lower priority delay": decimal(garp.lower_prio_delay_ms, 3),
        "Gratuitous ARP lower priority repeat": str(garp.lower_prio_repeat),
        "addresses": [_interface(address) for address in instance.virtual_addresses],
        "excluded": [_interface(address) for address in instance.excluded_addresses],
    }
    if instance.preempt_delay_ms:
        words["Preempt delay"] = decimal(instance.preempt_delay_ms, 3) + " secs"
    if instance.auth_pass:
        words["Password"] = instance.auth_pass.decode()
    if not instance.unicast_peers:
        words["Multicast address"] = instance.multicast_group
    return words


def _interface(address: Address) -> str:
    return str(ipaddress.ip_interface(f"{address.address}/{address.prefixlen}"))


def seconds(text: str) -> Decimal:
    """An interval as the dump has it."""
    number, unit = text.split()
    return Decimal(number) / (1000 if unit == "milli-sec" else 1)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_tandem_makes_of_it_what_keepalived_makes(
    path: Path, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    config: Config | None = load_text(imported(path, "r1", capsys), "imported").config
    assert config is not None
    dump = dumped(host, path)
    assert [instance.name for instance in config.instances] == list(dump)
    for instance in config.instances:
        expected, seen = in_its_words(instance), dump[instance.name]
        seen["Advert interval"] = seconds(seen["Advert interval"])
        assert {key: seen.get(key) for key in expected} == expected
        assert ("Password" in seen) == ("Password" in expected)
        assert ("Preempt delay" in seen) == ("Preempt delay" in expected)


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
