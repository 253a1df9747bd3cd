# SPDX-License-Identifier: GPL-2.0-or-later
"""Packs .ipk files as OpenWrt's scripts/ipkg-build does, and indexes them for opkg.

    ipk.py pack STAGE OUTPUT    STAGE becomes OUTPUT/NAME_VERSION_ARCH.ipk
    ipk.py index OUTPUT         writes OUTPUT/Packages and Packages.gz, and signs them

IPK_CONTROL, IPK_DESCRIPTION, IPK_PRERM and the like (see PARTS) hold the text that goes with STAGE.
FEED_KEYS is the directory of the keys that `make feed-key` makes; without them nothing is signed.
The same input gives the same bytes: members are sorted, root's, and of the time SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

# OpenWrt puts these into every package; functions.sh does the work, and then runs postinst-pkg and prerm-pkg.
HEAD = """#!/bin/sh
{skip}[ -s ${{IPKG_INSTROOT}}/lib/functions.sh ] || exit 0
. ${{IPKG_INSTROOT}}/lib/functions.sh
default_{name} $0 $@
"""
SKIP = '[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0\n'
SCRIPTS = {"postinst": HEAD.format(name="postinst", skip=SKIP), "prerm": HEAD.format(name="prerm", skip="")}

PARTS = {
    "IPK_CONFFILES": "conffiles",
    "IPK_PREINST": "preinst",
    "IPK_POSTINST": "postinst-pkg",
    "IPK_PRERM": "prerm-pkg",
    "IPK_POSTRM": "postrm",
}


def main(argv: list[str]) -> int:
    match argv:
        case ["pack", stage, output]:
            pack(Path(stage), Path(output), int(os.environ["SOURCE_DATE_EPOCH"]))
        case ["index", output]:
            index(Path(output))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def pack(stage: Path, output: Path, epoch: int) -> None:
    """Write the package, and say how large it is, packed and installed."""
    data = archive({"./" + str(p.relative_to(stage)): p for p in stage.rglob("*")}, epoch)
    fields = f"{os.environ['IPK_CONTROL'].strip()}\nInstalled-Size: {len(data)}\n"
    fields += description(os.environ["IPK_DESCRIPTION"]) + "\n"
    meta: dict[str, bytes | Path] = {"./control": fields.encode()}
    meta |= {"./" + name: text.encode() for name, text in SCRIPTS.items()}
    for variable, name in PARTS.items():
        if text := os.environ.get(variable, "").strip():
            meta["./" + name] = text.encode() + b"\n"
    whole = archive(
        {
            "./debian-binary": b"2.0\n",
            "./data.tar.gz": compressed(data),
            "./control.tar.gz": compressed(archive(meta, epoch)),
        },
        epoch,
        top=False,
        ordered=False,
    )
    value = dict(line.split(": ", 1) for line in fields.splitlines() if not line.startswith(" "))
    name = f"{value['Package']}_{value['Version']}_{value['Architecture']}.ipk"
    packed = compressed(whole)
    (output / name).write_bytes(packed)
    files = sum(p.lstat().st_size for p in stage.rglob("*") if not p.is_dir() or p.is_symlink())
    print(f"{name}: {kib(len(packed))} KiB to download, {kib(files)} KiB installed")


def description(text: str) -> str:
    """The Description field: each line indented by one space."""
    return "Description: " + "\n".join(" " + line.strip() for line in text.strip().splitlines())


def archive(
    members: Mapping[str, bytes | Path],
    epoch: int,
    *,
    top: bool = True,
    ordered: bool = True,
) -> bytes:
    """A tar archive of file contents, and of files, directories and links on disk with their modes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        if top:
            tar.addfile(entry("./", epoch, tarfile.DIRTYPE, 0o755))
        for name in sorted(members) if ordered else members:
            source = members[name]
            if isinstance(source, bytes):
                mode = 0o755 if source.startswith(b"#!") else 0o644
                add(tar, entry(name, epoch, tarfile.REGTYPE, mode), source)
                continue
            mode = stat.S_IMODE(source.lstat().st_mode)
            if source.is_symlink():
                link = entry(name, epoch, tarfile.SYMTYPE, 0o777)
                link.linkname = os.readlink(source)
                tar.addfile(link)
            elif source.is_dir():
                tar.addfile(entry(name + "/", epoch, tarfile.DIRTYPE, 0o755))
            else:
                add(tar, entry(name, epoch, tarfile.REGTYPE, mode), source.read_bytes())
    return buffer.getvalue()


def entry(name: str, epoch: int, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, epoch
    info.uname = info.gname = "root"
    return info


def add(tar: tarfile.TarFile, info: tarfile.TarInfo, content: bytes) -> None:
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def compressed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def kib(size: int) -> int:
    return -(-size // 1024)


def index(output: Path) -> None:
    """Write the index that `opkg update` fetches: control files with name, size and hash."""
    stanzas = []
    for package in sorted(output.glob("*.ipk")):
        packed = package.read_bytes()
        digest = hashlib.sha256(packed).hexdigest()
        facts = f"Filename: {package.name}\nSize: {len(packed)}\nSHA256sum: {digest}\n"
        stanzas.append(re.sub(r"^(?=Description:)", facts, control_of(package), flags=re.MULTILINE) + "\n")
    packages = "".join(stanzas).encode()
    (output / "Packages").write_bytes(packages)
    (output / "Packages.gz").write_bytes(compressed(packages))
    key = Path(os.environ.get("FEED_KEYS", ""), "opkg.sec")
    if key.is_file():
        # usign's signatures are signify's.
        files = ["-m", str(output / "Packages"), "-x", str(output / "Packages.sig")]
        subprocess.run(["signify-openbsd", "-S", "-s", str(key), *files], check=True)


def control_of(package: Path) -> str:
    """The control file in an .ipk."""
    with tarfile.open(package) as outer:
        inner = outer.extractfile("./control.tar.gz")
        assert inner is not None  # it is a file
        with tarfile.open(fileobj=inner) as control:
            member = control.extractfile("./control")
            assert member is not None
            return member.read().decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
