# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages of the pages in LuCI: what is in them, and that nothing is spoilt by packing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging import packages

APP = packages.FEED / "luci-app-tandem"
SOURCES = sorted(path.relative_to(APP / "htdocs") for path in (APP / "htdocs").rglob("*.*"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, packages.Package]:
    output = tmp_path_factory.mktemp("ipk")
    packages.make_ipk(output, "PACKAGE_SOURCES=luci-app-tandem")
    return {path.name.partition("_")[0]: packages.read(path) for path in output.glob("*.ipk")}


def test_a_package_for_the_pages_and_one_for_each_language(made: dict[str, packages.Package]) -> None:
    assert set(made) == {"luci-app-tandem", "luci-i18n-tandem-de", "luci-i18n-tandem-it"}
    assert made["luci-app-tandem"].fields["Depends"] == "libc, luci-base, tandem"
    assert all(package.fields["Architecture"] == "all" for package in made.values())
    for language in ("de", "it"):
        files = made[f"luci-i18n-tandem-{language}"].files
        assert set(files) == {
            f"/etc/uci-defaults/luci-i18n-tandem-{language}",
            f"/usr/lib/lua/luci/i18n/tandem.{language}.lmo",
            f"/usr/lib/lua/luci/i18n/tandem-options.{language}.lmo",
        }


def test_the_pages_are_all_there_and_small(made: dict[str, packages.Package]) -> None:
    files = made["luci-app-tandem"].files
    menu = "/usr/share/luci/menu.d/luci-app-tandem.json"
    assert set(files) == {f"/www/{path}" for path in SOURCES} | {menu}
    for row in json.loads(files[menu]).values():
        if row["action"]["type"] == "view":
            assert f"/www/luci-static/resources/view/{row['action']['path']}.js" in files
    table = [path for path in files if "/tandem/options/" in path]
    assert sum(len(data) for path, data in files.items() if path not in table) < 80_000
    assert max(len(files[path]) for path in table) < 16_000  # a page loads some


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
@pytest.mark.parametrize("path", [path for path in SOURCES if path.suffix == ".js"], ids=str)
def test_packing_leaves_out_comments_and_nothing_else(made: dict[str, packages.Package], path: Path) -> None:
    """The packed text is still a function's body, and has each line of code."""
    packed = made["luci-app-tandem"].files[f"/www/{path}"].decode()
    lines = [line.strip() for line in (APP / "htdocs" / path).read_text().splitlines()]
    assert packed.splitlines() == [line for line in lines if line and not line.startswith("//")]
    program = "new Function(require('fs').readFileSync(0, 'utf8'))"
    subprocess.run(["node", "-e", program], input=packed, text=True, check=True)
