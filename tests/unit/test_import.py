# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem import`: other programs' files, what becomes of them, and what is said about the rest."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tandem.config.load import load_text
from tandem.config.schema import Config
from tandem.control import cli

DATA = Path(__file__).parent / "data" / "import"


class Imported:
    """One run of the command over texts that become files."""

    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self._capsys = tmp_path, capsys
        self.status, self.out, self.err = -1, "", ""

    def run(self, *arguments: str, **files: str) -> Imported:
        """Import the files `name=text`; a name ends in _conf or _uci, which becomes its suffix."""
        names = []
        for name, text in files.items():
            path = self.directory / name.replace("_", ".")
            path.write_text(text)
            names.append(str(path))
        self.status = cli.main(["import", *names, "--id", "r1", *arguments])
        captured = self._capsys.readouterr()
        self.out, self.err = captured.out, captured.err.replace(f"{self.directory}/", "")
        return self

    @property
    def config(self) -> Config:
        loaded = load_text(self.out, "imported")
        assert loaded.config is not None, [str(problem) for problem in loaded.errors]
        return loaded.config

    def said(self, kind: str) -> list[str]:
        """The messages of a kind, without it."""
        return [line.partition(": ")[2] for line in self.err.splitlines() if line.startswith(f"{kind}: ")]


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Imported:
    return Imported(tmp_path, capsys)


INSTANCE = """\
vrrp_instance V {
    interface eth0
    virtual_router_id 7
    virtual_ipaddress {
        10.0.0.1/24
    }
    %s
}
"""


def data(name: str) -> str:
    return (DATA / name).read_text()


class TestSeed:
    """The files of the seed's last chapter, as they stand there."""

    def test_keepalived(self, imported: Imported) -> None:
        config = imported.run(k_conf=data("keepalived.conf")).config
        seed = load_text((DATA.parent / "seed.config").read_text(), "seed")
        assert imported.status == 0 and imported.said("not imported") == []
        assert seed.config is not None
        assert (config.instances, config.groups) == (seed.config.instances, seed.config.groups)

    def test_two_pages(self, imported: Imported) -> None:
        """The end of the page tears the last block apart: what keepalived makes of that, with the lines."""
        config = imported.run(k_conf=data("keepalived_two_pages.conf")).config
        assert [instance.auth_pass for instance in config.instances] == [b"s3cret", None]
        assert imported.status == 0
        assert imported.said("not imported") == [
            "k.conf:37: 'auth_type PASS': no password is given, and so keepalived ignores it as well",
            "k.conf:41: 'auth_pass ***': unknown keyword",
            "k.conf:42: '}' without a block that it could close",
            "k.conf:43: 'nopreempt': unknown keyword",
            "k.conf:44: '}' without a block that it could close",
        ]

    def test_conntrackd(self, imported: Imported) -> None:
        secret = imported.directory / "secret"
        secret.write_text("0123456789abcdef")
        secret.chmod(0o600)
        sync = imported.run(
            "--secret-file", str(secret), k_conf=data("keepalived.conf"), c_conf=data("conntrackd.conf")
        ).config.conntrack_sync
        assert sync is not None and imported.said("not imported") == []
        path = sync.peers[0].paths[0]
        assert (path.address, path.source, path.port) == ("192.168.0.3", "192.168.0.2", 3780)

    def test_openwrt_points_to_it(self, imported: Imported) -> None:
        root = imported.directory / "root"
        (root / "etc/keepalived").mkdir(parents=True)
        (root / "etc/config").mkdir()
        (root / "etc/keepalived/keepalived.conf").write_text(data("keepalived.conf"))
        (root / "etc/config/keepalived").write_text(data("keepalived.uci"))
        config = imported.run("--root", str(root)).config
        assert [instance.name for instance in config.instances] == ["I1", "E1"]


class TestOutput:
    def test_a_file_that_nobody_else_reads(self, imported: Imported) -> None:
        target = imported.directory / "tandem"
        assert imported.run("-o", str(target), k_conf=data("keepalived.conf")).status == 0
        assert imported.out == ""
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert load_text(target.read_text(), "tandem").config is not None
        assert (
            os.listdir(imported.directory) == ["tandem", "k.conf"] or len(os.listdir(imported.directory)) == 2
        )

    def test_not_over_another(self, imported: Imported) -> None:
        target = imported.directory / "tandem"
        target.write_text("mine")
        assert imported.run("-o", str(target), k_conf=data("keepalived.conf")).status == 2
        assert target.read_text() == "mine"
        assert imported.run("--force", "-o", str(target), k_conf=data("keepalived.conf")).status == 0
        assert "vrrp_instance" in target.read_text()

    def test_without_a_router_id_it_can_not_be_used(self, imported: Imported) -> None:
        assert imported.run(k_conf="vrrp_instance V {\n interface eth0\n}\n").status == 1
        assert imported.said("error") == [
            "k.conf:1: section 'V' (vrrp_instance), option 'virtual_router_id': is missing:"
            " a whole number from 1 to 255"
        ]
