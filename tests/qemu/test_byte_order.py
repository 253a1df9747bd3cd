# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests of netlink on a big-endian processor and its kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from qemu import cpio, pairs
from qemu.debian import Debian
from qemu.lab_guest import PACKAGES, PYTHON
from qemu.machine import Machine
from tests.lab import Lab

from .guests import LOGS, skipped

ROOT = Path(__file__).resolve().parents[2]
PYTEST = ["pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py", "pytest_timeout"]
MEMORY_MIB = 512
TIMEOUT = 800  # s

# Each a run of pytest, under tests/
UNIT = ["replication_message", "replication_ctnetlink", "rtnl_batch", "planner_nft", "planner_rtnl", "links"]
NETNS = ["effects_rtnl", "effects_firewall", "replication_ctnetlink", "replication_restore"]
RUNS = [" ".join(f"unit/test_{name}.py" for name in UNIT), *(f"netns/test_{name}.py" for name in NETNS)]


def programs(architecture: str, place: Path) -> dict[str, bytes | Path]:
    """Files for the guest: this checkout, pytest as it runs here (which any processor can run), hypothesis.

    Hypothesis is Debian's, unpacked under `place`: newer ones are compiled.
    """
    files: dict[str, bytes | Path] = {}
    for name in ("src/tandem", "tests", "files"):
        files |= cpio.directory(ROOT / name, f"/root/tandem/{name}")
    site = f"/usr/local/lib/python{PYTHON}/dist-packages"
    for name in PYTEST:
        module = Path(str(import_module(name).__file__))
        if module.name == "__init__.py":
            files |= cpio.directory(module.parent, f"{site}/{name}")
        else:
            files[f"{site}/{module.name}"] = module
    debian = Debian(architecture)
    there = debian.closure(PACKAGES)
    packages = debian.closure(["python3-hypothesis"])
    debian.unpack({name: file for name, file in packages.items() if name not in there}, place)
    files |= cpio.directory(place / "usr/lib/python3", "/usr/lib/python3")
    return {name: file for name, file in files.items() if not name.endswith(".pyc")}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on its own."""
    with skipped():
        image = replace(pairs.lab("s390x"), memory_mib=MEMORY_MIB)
    seed = programs("s390x", tmp_path_factory.mktemp("debian"))
    with Lab("order") as place:
        made = place.add(Machine("m1", [], image, seed))
        place.up()
        made.power_on()
        try:
            made.wait_booted()
            yield made
        finally:
            made.keep_logs(LOGS / "byte-order")


@pytest.mark.parametrize("files", RUNS, ids=["unit", *NETNS])
def test_netlink_s390x(machine: Machine, files: str) -> None:
    """The kernel of a small machine knows few connections, which some tests fill."""
    order = "import sys; print(sys.byteorder)"
    assert machine.run(f"python3 -c '{order}'").strip() == "big"
    machine.run("sysctl -qw net.netfilter.nf_conntrack_max=65536")
    options = "-p pytest_timeout -o timeout=600 -p no:cacheprovider -q --tb=short"
    lacking = "not a_call_is_put_through"  # Debian's kernel as it is packed here has no helper for SIP
    command = f"cd /root/tandem/tests && python3 -B -m pytest {options} -k '{lacking}' {files}"
    machine.run(f"({command}) >/tmp/report 2>&1 || (tail -n 100 /tmp/report; false)", TIMEOUT)
    assert " passed" in machine.run("tail -n 1 /tmp/report")
