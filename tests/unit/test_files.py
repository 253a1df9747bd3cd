# SPDX-License-Identifier: GPL-2.0-or-later
"""Files where others may have put traps: links, pipes, directories of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tandem import files
from tandem.dhcp import command
from tandem.dhcp.lease_file import WAIT, LeaseFile
from tandem.effects.sysctl import Sysctls
from tandem.loop import Loop
from tandem.plan import dnsmasq


def test_an_ordinary_file(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    files.replace(path, b"one", 0o600)
    assert files.read(path, 3) == b"one" and os.stat(path).st_mode & 0o777 == 0o600
    os.chmod(path, 0o640)
    files.replace(path, b"other")
    assert files.read(path, 100) == b"other" and os.stat(path).st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(OSError, match="longer"):
        files.read(path, 4)
    with pytest.raises(FileNotFoundError):
        files.read(path + "2", 4)


@pytest.fixture(params=["link", "dangling link", "pipe", "directory"])
def trap(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something else in the place of a file; the file that a link leads to must stay as it is."""
    place = tmp_path / "place"
    (tmp_path / "precious").write_text("precious\n")
    if request.param == "pipe":
        os.mkfifo(place)
    elif request.param == "directory":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / ("precious" if request.param == "link" else "nothing"))
    return place


def test_a_trap_is_not_read_and_not_written_through(trap: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        files.read(str(trap), 100)
    if trap.is_dir() and not trap.is_symlink():
        with pytest.raises(OSError):
            files.replace(str(trap), b"ours")
        assert not (tmp_path / "place.tandem").exists()
    else:
        files.replace(str(trap), b"ours")
        assert trap.read_bytes() == b"ours" and not trap.is_symlink()
    assert (tmp_path / "precious").read_text() == "precious\n"
    assert not (tmp_path / "nothing").exists()


def test_a_trap_in_the_place_of_the_draft(trap: Path, tmp_path: Path) -> None:
    trap.rename(tmp_path / "file.tandem")
    path = tmp_path / "file"
    if (tmp_path / "file.tandem").is_dir() and not (tmp_path / "file.tandem").is_symlink():
        with pytest.raises(OSError):
            files.replace(str(path), b"ours")
    else:
        files.replace(str(path), b"ours")
        assert path.read_bytes() == b"ours"
    assert (tmp_path / "precious").read_text() == "precious\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").write_text("theirs")
    os.chown(theirs, 65534, 65534)
    (tmp_path / "link").symlink_to(tmp_path)
    os.chown(tmp_path / "link", 65534, 65534, follow_symlinks=False)
    for directory in (theirs, tmp_path / "link"):
        for action in (
            lambda d=directory: files.read(f"{d}/file", 10),
            lambda d=directory: files.replace(f"{d}/file", b""),
        ):
            with pytest.raises(PermissionError):
                action()


def test_the_lease_file_is_a_trap(trap: Path, tmp_path: Path) -> None:
    loop = Loop()
    leases = LeaseFile(loop, str(trap), lambda: None)
    leases.start()
    with pytest.raises(OSError):
        leases.read()
    leases.stop()
    loop.close()
    assert (tmp_path / "precious").read_text() == "precious\n"


def test_a_lease_file_that_is_watched_no_more_keeps_nothing_open(tmp_path: Path) -> None:
    """Neither the watch nor the file that was replaced, which the former dnsmasq may still write to."""
    path = tmp_path / "leases"
    path.write_text("one\n")
    loop = Loop()
    before = len(os.listdir("/proc/self/fd"))
    leases = LeaseFile(loop, str(path), lambda: None)
    for _ in range(3):
        leases.start()
        for text in ("two\n", "three\n"):
            leases.replace(text)
        assert leases.has_before and leases.before() == "one\n", "what dnsmasq has open"
        leases.stop()
        assert not leases.has_before and leases.before() is None
        path.write_text("one\n")
    assert len(os.listdir("/proc/self/fd")) == before
    loop.close()


def test_a_lease_file_changes_when_it_is_written_and_not_when_it_is_read(tmp_path: Path) -> None:
    """The daemon reads it after each change: a watch for readers would never rest."""
    path = tmp_path / "leases"
    path.write_text("one\n")
    loop = Loop()
    changes: list[str | None] = []
    leases = LeaseFile(loop, str(path), lambda: changes.append(leases.read()))
    over: list[int] = []

    def settled() -> set[str | None]:
        """Return what was read until nothing more happened for a while."""
        found: set[str | None] = set()
        for _ in range(10):
            over.clear()
            changes.clear()
            loop.call_at("test", loop.now() + 3 * WAIT, over.append)
            while not over:
                loop.turn(WAIT)
            if not changes:
                return found
            found |= set(changes)
        pytest.fail("there is no end of changes")

    leases.start()
    assert settled() == {"one\n"}
    assert leases.read() == "one\n" and settled() == set()
    with path.open("r+") as file:  # as dnsmasq writes it: in place
        file.write("two\n")
    assert settled() == {"two\n"}
    leases.stop()
    loop.close()


def test_the_overlay_of_uci_is_rewritten_whole(tmp_path: Path) -> None:
    state = tmp_path / "dhcp"
    others = "".join(f"dhcp.other{number}.x='\udcff'\n" for number in range(10_000))
    state.write_text(others + "dhcp.lan.force='1'\n", errors="surrogateescape")
    before = state.stat().st_ino
    assert command._unforce(str(state))
    assert state.read_text(errors="surrogateescape") == others
    assert state.stat().st_ino != before, "a new file took its place"
    state.unlink()
    state.symlink_to("/etc/passwd")
    assert dnsmasq.file_text(str(state), follow=False) == ""


def test_what_was_saved_of_the_kernels_settings(trap: Path, tmp_path: Path) -> None:
    assert str(trap) in Sysctls(str(trap), str(tmp_path)).load()[0]
    assert (tmp_path / "precious").read_text() == "precious\n"
