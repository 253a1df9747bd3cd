# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages of `make ipk`: contents, control fields, index, and the same bytes every time."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging import apk_packages, packages
from tests.packaging.packages import REPOSITORY, Package

strip = apk_packages.module("strip")

FIELDS = {
    "Package": "tandem",
    "Version": "0.1.0-r1",
    "Source": "feeds/tandem/openwrt-feed/tandem",
    "SourceName": "tandem",
    "License": "GPL-2.0-or-later",
    "LicenseFiles": "LICENSE",
    "Section": "net",
    "SourceDateEpoch": packages.EPOCH,
    "Architecture": "all",
}


@pytest.fixture(scope="module")
def built(feed: Path) -> dict[str, Package]:
    return {path.name.split("_")[0]: packages.read(path) for path in feed.glob("*.ipk")}


def repository_files(directory: str) -> list[str]:
    """Paths below a directory of the repository: what is tracked or would be, nothing ignored."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", directory],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for path in done.stdout.splitlines() if (REPOSITORY / path).exists()]


def test_every_file_is_in_exactly_one_package(built: dict[str, Package]) -> None:
    expected = [path.removeprefix("files") for path in repository_files("files")]
    expected += ["/usr/lib/tandem" + path.removeprefix("src") for path in repository_files("src/tandem")]
    expected.remove("/usr/lib/tandem/tandem/status_schema.py")  # for mypy and the tests
    packed = [path for package in built.values() for path in package.files]
    assert sorted(packed) == sorted(expected)
    assert list(built["tandem-tools"].files) == ["/usr/lib/tandem/tandem/listen/capture.py"]
    importer = [path for path in expected if "/importer/" in path]
    assert len(importer) > 9 and sorted(built["tandem-import"].files) == sorted(importer)
    for package in built.values():
        for path, content in package.files.items():
            source = "src" + path.removeprefix("/usr/lib/tandem") if "/usr/lib/" in path else "files" + path
            if path.endswith(".py"):
                assert content.decode() == strip.stripped((REPOSITORY / source).read_text()), path
            else:
                assert content == (REPOSITORY / source).read_bytes(), path


def test_sources_lose_words_and_types_and_keep_meaning_and_lines() -> None:
    source = (
        "# SPDX-License-Identifier: GPL-2.0-or-later\n"
        '"""What the module is."""\n\nfrom __future__ import annotations\n\n\n'
        'class Error(Exception):\n    """Nothing\n    else."""\n\n\n'
        "def text(x: int) -> str:  # a comment\n"
        '    "Return it."\n    # another\n    if x:\n        return """a # no comment\n        b"""\n'
        "    return '#'\n"
        "class Pair:\n    one: int = 1\n    two: str\n\n"
        '    def __init__(self, *more: int, name: str = ": é", **rest: object) -> None:\n'
        "        self.more: tuple[int, ...] = more\n        é: int = 3; self.rest: list[int]\n"
        "if TYPE_CHECKING:\n    import os\n\n    class P(Protocol):\n        def f(self) -> int:\n"
        '            "Return it."\n'
        "async def wait(a: dict[\n    str, int], b: int, /) -> dict[\n    str, int\n]:\n"
        "    x: int\n    return a\n"
    )
    assert strip.stripped(source) == (
        "# SPDX-License-Identifier: GPL-2.0-or-later\n\n\nfrom __future__ import annotations\n\n\n"
        "class Error(Exception):\n ...\n\n\n\n"
        "def text(x):\n\n\n"
        ' if x:\n  return """a # no comment\n        b"""\n'
        " return '#'\n"
        "class Pair:\n one: int = 1\n two: str\n\n"
        ' def __init__(self, *more, name = ": é", **rest):\n'
        "  self.more = more\n  é = 3; self.rest: list[int]\n"
        "\n\n\n\n\n\n"
        "async def wait(a: dict[\n str, int], b, /) -> dict[\n str, int\n]:\n x: int\n return a\n"
    )


def test_the_flag_of_a_type_checker_stays_where_it_is_read() -> None:
    flag, imports = "TYPE_CHECKING = False\n", "if TYPE_CHECKING:\n    import os\n"
    assert strip.stripped(f"x = 1\n{flag}{imports}y = 2\n") == "x = 1\n\n\n\ny = 2\n"
    for more in ("if not TYPE_CHECKING:\n y = 2\n", "if TYPE_CHECKING:\n x = 1\nelse:\n x = 2\n"):
        assert strip.stripped(f"x = 1\n{flag}{imports}{more}") == f"x = 1\n{flag}\n\n{more}"


def test_owners_modes_and_times(built: dict[str, Package]) -> None:
    for package in built.values():
        for name, (info, _) in (package.data | package.control).items():
            assert (info.uid, info.gid, info.uname, info.gname) == (0, 0, "root", "root"), name
            assert info.mtime == int(packages.EPOCH), name
            path = name[1:]
            if info.issym():
                assert info.linkname == os.readlink(REPOSITORY / ("files" + path))
                mode = 0o777
            elif info.isdir():
                mode = 0o755
            elif path == "/etc/config/tandem":
                mode = 0o600
            elif re.search(r"^/(usr/s?bin|etc/init\.d)/|/(postinst|prerm|postrm|preinst)(-pkg)?$", path):
                mode = 0o755
            else:
                mode = 0o755 if os.access(REPOSITORY / ("files" + path), os.X_OK) else 0o644
            assert info.mode == mode, name


def test_control_fields(built: dict[str, Package], feed: Path) -> None:
    assert sorted(built) == ["tandem", "tandem-gate", "tandem-import", "tandem-tools"]
    fields = built["tandem"].fields
    assert {key: fields[key] for key in FIELDS} == FIELDS
    assert int(fields["Installed-Size"]) > sum(map(len, built["tandem"].files.values()))
    assert built["tandem-gate"].fields["Depends"] == "libc, tandem, python3-netfilterqueue, kmod-nft-queue"
    assert built["tandem-tools"].fields["Depends"] == "libc, tandem, python3-scapy"
    assert built["tandem-import"].fields["Depends"] == "libc, tandem"
    for package in built.values():
        text = package.control["./control"][1].decode()
        assert re.search(r"^Description:  \S.*\n( \S.*\n)*\Z", text, re.MULTILINE), text
        assert re.fullmatch(r"[^<>]+ <[^@ ]+@[^ ]+>", package.fields["Maintainer"])


def test_scripts_and_conffiles(built: dict[str, Package]) -> None:
    control = {name: content.decode() for name, (_, content) in built["tandem"].control.items()}
    assert control["./conffiles"] == "/etc/config/tandem\n"
    assert control["./prerm"].splitlines()[-1] == "default_prerm $0 $@"
    assert control["./postinst"].splitlines()[-1] == "default_postinst $0 $@"
    for name in ("postinst-pkg", "prerm-pkg", "postrm"):
        assert control[f"./{name}"].startswith("#!/bin/sh\n") and control[f"./{name}"].endswith("\nexit 0\n")
        assert "$$" not in control[f"./{name}"]
    assert set(built["tandem-gate"].control) == {".", "./control", "./postinst", "./prerm"}


def test_index(built: dict[str, Package], feed: Path) -> None:
    text = (feed / "Packages").read_text()
    assert gzip.decompress((feed / "Packages.gz").read_bytes()).decode() == text
    stanzas = text.strip().split("\n\n")
    assert len(stanzas) == len(built)
    for stanza in stanzas:
        name = re.search(r"^Filename: (.*)$", stanza, re.MULTILINE)
        assert name is not None
        data = (feed / name[1]).read_bytes()
        assert f"Size: {len(data)}\nSHA256sum: {hashlib.sha256(data).hexdigest()}\n" in stanza


def test_sizes_are_printed(tmp_path: Path) -> None:
    """A link counts as itself, not as the file that it names."""
    printed = packages.make_ipk(tmp_path / "ipk")
    size = re.search(r"^tandem_0\.1\.0-r1_all\.ipk: \d+ KiB to download, (\d+) KiB installed$", printed, re.M)
    [package] = (tmp_path / "ipk").glob("tandem_*.ipk")
    members = [info for info, _ in packages.read(package).data.values() if not info.isdir()]
    assert size is not None
    assert int(size[1]) == -(-sum(info.size or len(info.linkname) for info in members) // 1024)


def test_the_same_bytes_from_anywhere(feed: Path, tmp_path: Path) -> None:
    """Another directory, with files of another time and mode, another umask, time zone and locale."""
    elsewhere = tmp_path / "elsewhere"
    for path in ["Makefile", "LICENSE", *repository_files("files"), *repository_files("src/tandem")]:
        copy_carelessly(REPOSITORY / path, elsewhere / path)
    for path in repository_files("openwrt-feed"):
        copy_carelessly(REPOSITORY / path, elsewhere / path)
    (elsewhere / "src/tandem/__pycache__").mkdir()
    (elsewhere / "src/tandem/__pycache__/left.pyc").touch()
    mask = os.umask(0o077)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TZ", "Asia/Kathmandu")
            patch.setenv("LC_ALL", "C")
            packages.make_ipk(tmp_path / "ipk", repository=elsewhere)
    finally:
        os.umask(mask)
    for name in (path.name for path in feed.iterdir()):
        assert (tmp_path / "ipk" / name).read_bytes() == (feed / name).read_bytes(), name


def copy_carelessly(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    shutil.copyfile(source, target)
    target.chmod(0o700 if os.access(source, os.X_OK) else 0o660)
    os.utime(target, (86400, 86400))
