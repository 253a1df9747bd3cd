# SPDX-License-Identifier: GPL-2.0-or-later
"""The format of apk-tools 3: what our writer writes, against a reader, golden bytes and the real apk."""

from __future__ import annotations

import base64
import marshal
import os
import shutil
import subprocess
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.openwrt_pieces import USR
from tests.packaging import apk_packages, packages

adb, apk = apk_packages.module("adb"), apk_packages.module("apk")
# The sample and its index, made by `apk mkpkg` and `apk mkndx` of apk-tools 3.0.6.
GOLDEN = Path(__file__).parent / "data/apk_golden.txt"
REAL_APK = os.environ.get("TANDEM_APK") or shutil.which("apk", path=f"{os.environ['PATH']}:{USR}/bin")

TREES = st.recursive(
    st.none() | st.integers(0, 2**64 - 1) | st.binary(min_size=1, max_size=400) | st.just(b"x" * 70_000),
    lambda children: st.lists(children, max_size=6),
    max_leaves=20,
)


def written(writer: Any, tree: Any) -> int:
    if isinstance(tree, list):
        return int(writer.object([written(writer, item) for item in tree]))
    if tree is None:
        return 0
    return int(writer.integer(tree) if isinstance(tree, int) else writer.blob(tree))


def same(reader: Any, value: int, tree: Any) -> bool:
    """Whether a value reads as `tree`; objects lose what is empty at their end."""
    if isinstance(tree, list):
        slots = reader.object(value)
        missing = [0] * (len(tree) - len(slots))
        return all(same(reader, slot, item) for slot, item in zip([*slots, *missing], tree, strict=True))
    if tree is None:
        return value == 0
    return bool((reader.integer(value) if isinstance(tree, int) else reader.blob(value)) == tree)


@given(TREES)
def test_what_is_written_is_read(tree: Any) -> None:
    writer = adb.Writer()
    content = bytes(writer.finish(written(writer, tree)))
    file = adb.container(adb.PACKAGE, content, [b"signature"], [b"first", b""])
    kinds = list(adb.blocks(file, adb.PACKAGE))
    assert kinds == [(0, content), (1, b"signature"), (2, b"first"), (2, b"")]
    reader = adb.Reader(content)
    assert same(reader, reader.root, tree)
    again = adb.Writer()
    copied = adb.Reader(bytes(again.finish(reader.copy(reader.root, again, 30))))
    assert same(copied, copied.root, tree)


@given(st.binary(max_size=200), st.booleans(), st.integers(0, 2**32 - 1))
def test_garbage_is_an_error_of_its_own(garbage: bytes, deflated: bool, value: int) -> None:
    data = adb.DEFLATED + garbage if deflated else adb.MAGIC + b"pckg" + garbage
    for read in (
        lambda: list(adb.blocks(data, adb.PACKAGE)),
        lambda: adb.Reader(garbage).copy(value, adb.Writer()),
    ):
        try:
            read()
        except adb.AdbError:
            continue


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The sample as make gives it to the packer; without this machine's apk, and without a key."""
    for name, text in apk_packages.ENVIRONMENT.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("TANDEM_APK", "")
    monkeypatch.delenv("FEED_KEYS", raising=False)
    return monkeypatch


def packed(directory: Path) -> tuple[bytes, bytes]:
    """The sample and its index."""
    output = directory / "out"
    output.mkdir(parents=True)
    stage = apk_packages.stage(directory / "stage")
    assert apk.main(["pack", str(stage), str(output)]) == apk.main(["index", str(output)]) == 0
    return (output / "sample-1.2-r3.apk").read_bytes(), (output / "packages.adb").read_bytes()


def test_the_bytes_are_those_of_the_real_apk(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Compressed bytes depend on the zlib: the contents count."""
    golden = [base64.b64decode(line) for line in GOLDEN.read_text().splitlines()]
    schemas = (adb.PACKAGE, adb.INDEX)
    for ours, real, schema in zip(packed(tmp_path), golden, schemas, strict=True):
        assert list(adb.blocks(ours, schema)) == list(adb.blocks(real, schema))


@pytest.mark.skipif(not REAL_APK, reason="no apk-tools 3 here (TANDEM_APK)")
def test_the_real_apk_makes_the_same(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = packed(tmp_path / "ours")
    environment.setenv("TANDEM_APK", str(REAL_APK))
    assert apk.maker() == REAL_APK
    assert packed(tmp_path / "theirs") == ours


def test_dependencies_that_are_none_are_refused(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("IPK_CONTROL", apk_packages.CONTROL.replace("zed", ">=1"))
    (tmp_path / "out").mkdir()
    assert apk.main(["pack", str(apk_packages.stage(tmp_path / "stage")), str(tmp_path / "out")]) == 1
    assert "'>=1' is no dependency" in capsys.readouterr().err


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of `make feed-key`."""
    directory = tmp_path_factory.mktemp("keys") / "feed"
    program = packages.FEED / "standalone/feed-key"
    subprocess.run([program, directory], check=True, stdout=subprocess.DEVNULL)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    subprocess.run([program, directory], check=True, stdout=subprocess.DEVNULL)
    assert before == {path.name: path.read_bytes() for path in directory.iterdir()}
    assert sorted(before) == ["apk.key", "apk.pem", "opkg.pub", "opkg.sec"]
    for name, mode in (("apk.key", 0o600), ("opkg.sec", 0o600), ("apk.pem", 0o644), ("opkg.pub", 0o644)):
        assert (directory / name).stat().st_mode & 0o777 == mode
    return directory


def test_signatures(environment: pytest.MonkeyPatch, tmp_path: Path, keys: Path) -> None:
    """openssl verifies what apk would: schema, head of the signature, and hash of the tree."""
    unsigned = packed(tmp_path / "unsigned")
    environment.setenv("FEED_KEYS", str(keys))
    for file, plain, schema in zip(
        packed(tmp_path / "signed"), unsigned, (adb.PACKAGE, adb.INDEX), strict=True
    ):
        (_, tree), (kind, signature), *rest = adb.blocks(file, schema)
        assert [(0, tree), *rest] == list(adb.blocks(plain, schema)) if schema == adb.PACKAGE else kind == 1
        message = tmp_path / "message"
        message.write_bytes(schema.to_bytes(4, "little") + signature[:18] + adb.hashlib.sha512(tree).digest())
        (tmp_path / "signature").write_bytes(signature[18:])
        argv = [
            "openssl",
            "dgst",
            "-sha512",
            "-verify",
            keys / "apk.pem",
            "-signature",
            tmp_path / "signature",
        ]
        assert subprocess.run([*argv, message], capture_output=True).returncode == 0
        assert signature[2:18] == adb.key_id(adb.public_key(keys / "apk.key"))


@pytest.mark.skipif(not REAL_APK, reason="no apk-tools 3 here (TANDEM_APK)")
def test_the_real_apk_trusts_the_key(environment: pytest.MonkeyPatch, tmp_path: Path, keys: Path) -> None:
    environment.setenv("FEED_KEYS", str(keys))
    packed(tmp_path)
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    files = [str(path) for path in (tmp_path / "out").iterdir()]

    def verify() -> int:
        argv = [str(REAL_APK), "--keys-dir", str(trusted), "verify", *files]
        return subprocess.run(argv, capture_output=True).returncode

    assert verify() != 0
    shutil.copy(keys / "apk.pem", trusted / "tandem.pem")
    assert verify() == 0


def test_a_feed_is_signed_and_says_how_to_use_it(tmp_path: Path, keys: Path) -> None:
    settings = [f"FEED_DIR={tmp_path / 'feed'}", f"FEED_KEYS={keys}", "FEED_ARCHITECTURES=mips_24kc"]
    said = packages.make_target("feed", *settings)
    assert "python3-netfilterqueue: not for mips_24kc: Debian has no compiler" in said
    feed = tmp_path / "feed"
    names = {str(path.relative_to(feed)) for path in feed.rglob("*") if path.is_file()}
    number = next(name for name in names if name.startswith("keys/") and name != "keys/tandem.pem")[5:]
    ours = {f"tandem{part}" for part in ("", "-gate", "-import", "-tools")}
    assert names == {
        *(f"opkg/{name}_0.1.0-r1_all.ipk" for name in ours),
        *(f"apk/{release}/{name}-0.1.0-r1.apk" for release in ("25.12", "main") for name in ours),
        *("opkg/Packages", "opkg/Packages.gz", "opkg/Packages.sig"),
        *(
            "apk/25.12/packages.adb",
            "apk/main/packages.adb",
            "index.html",
            "keys/tandem.pem",
            f"keys/{number}",
        ),
    }
    page = (feed / "index.html").read_text()
    assert f"wget -O /etc/opkg/keys/{number} FEED/keys/{number}" in page and "untrusted" not in page
    argv = ["signify-openbsd", "-V", "-q", "-p", feed / "keys" / number, "-m", feed / "opkg/Packages"]
    assert subprocess.run([*argv, "-x", feed / "opkg/Packages.sig"]).returncode == 0
    for release in ("25.12", "main"):
        index = adb.blocks((feed / f"apk/{release}/packages.adb").read_bytes(), adb.INDEX)
        assert [kind for kind, _ in index] == [0, 1]


def test_make_apk_makes_the_same_bytes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a release whose Python is there bytecode without columns, for any other one sources."""
    (tmp_path / "bin").mkdir()
    for version, program in ("3.13", f'exec {sys.executable} "$@"'), ("3.14", "exit 127"):
        (tmp_path / f"bin/python{version}").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / f"bin/python{version}").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in ("one", "two"):
        packages.make_target("apk", f"APK_DIR={tmp_path / name}")
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.a*"))
    assert len(files) == 10
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    for release, shipped in ("25.12", {True}), ("main", set()):
        package = (tmp_path / f"one/{release}/tandem-0.1.0-r1.apk").read_bytes()
        codes = [
            marshal.loads(data[data.index(MAGIC_NUMBER) + 16 :])
            for _, data in adb.blocks(package, adb.PACKAGE)
            if MAGIC_NUMBER in data
        ]
        assert {code.co_filename.startswith("/usr/lib/tandem/tandem/") for code in codes} == shipped
        assert all(position[2] is None for code in codes for position in code.co_positions())
