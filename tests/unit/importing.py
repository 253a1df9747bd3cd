# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of `tandem import` over texts, for the tests of what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.config.load import load_text
from tandem.config.schema import Config
from tandem.control import cli
from tandem.core.settings import Instance

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


def instance(lines: str = "", head: str = "") -> str:
    """A keepalived.conf with one instance."""
    return head + INSTANCE % lines


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

    @property
    def only(self) -> Instance:
        """The one instance of the result."""
        [found] = self.config.instances
        return found

    def said(self, kind: str) -> list[str]:
        """The messages of a kind, without it."""
        return [line.partition(": ")[2] for line in self.err.splitlines() if line.startswith(f"{kind}: ")]
