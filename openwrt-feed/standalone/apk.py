# SPDX-License-Identifier: GPL-2.0-or-later
"""Packs .apk files (apk-tools 3) as OpenWrt's include/package-pack.mk does, and indexes them for apk.

    apk.py pack STAGE OUTPUT    STAGE becomes OUTPUT/NAME-VERSION.apk
    apk.py index OUTPUT         writes OUTPUT/packages.adb

The environment is that of ipk.py. Where apk-tools 3 with `mkpkg` is at hand (TANDEM_APK, or `apk` in PATH) it
makes the files, otherwise this program does. Both make the same bytes, but for the signatures, which differ
each time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from adb import BLOCK_ADB, INDEX, NULL, PACKAGE, AdbError, Reader, Value, Writer, blocks, container, sign

INDEX_FILE = "packages.adb"

# Slots of the objects, from 1 on, by the names that `apk mkpkg` has for them (src/apk_adb.h).
INFO = (
    "name", "version", "hashes", "description", "arch", "license", "origin", "maintainer", "url",
    "repo-commit", "build-time", "installed-size", "file-size", "provider-priority",
    "depends", "provides", "replaces", "install-if", "recommends", "layer", "tags",
)  # fmt: skip
SCRIPTS = (
    "trigger", "pre-install", "post-install", "pre-deinstall", "post-deinstall", "pre-upgrade",
    "post-upgrade",
)  # fmt: skip
DEPENDENCY = re.compile(r"(!?)([^<>=~!]+)(?:([<>=~]+)(.+))?")
COMPARE = {"=": 1, "<": 2, ">": 4, "~": 9}  # bits of enum APK_VERSION_*
CONFLICT, ANY = 16, 7

FUNCTIONS = """[ -s ${{IPKG_INSTROOT}}/lib/functions.sh ] || exit 0
. ${{IPKG_INSTROOT}}/lib/functions.sh
export root="${{IPKG_INSTROOT}}"
export pkgname="{name}"
"""
SKIP = '[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0\n'


def main(argv: list[str]) -> int:
    key = Path(os.environ.get("FEED_KEYS", ""), "apk.key")
    key = key if key.is_file() else None
    try:
        match argv:
            case ["pack", stage, output]:
                pack(Path(stage), Path(output), int(os.environ["SOURCE_DATE_EPOCH"]), key)
            case ["index", output]:
                index(Path(output), key)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except (AdbError, subprocess.CalledProcessError) as error:
        print(f"apk.py: {error}", file=sys.stderr)
        return 1
    return 0


def pack(stage: Path, output: Path, epoch: int, key: Path | None) -> None:
    """Write the package, and say how large it is, packed and installed."""
    fields = dict(line.split(": ", 1) for line in os.environ["IPK_CONTROL"].splitlines() if ": " in line)
    name = fields["Package"]
    lists(stage, name)
    info = {
        "name": name,
        "version": fields["Version"],
        "description": " ".join(os.environ["IPK_DESCRIPTION"].split()),
        "arch": "noarch" if fields["Architecture"] == "all" else fields["Architecture"],
        "license": fields.get("License", ""),
        "origin": fields.get("Source", ""),
        "url": fields.get("URL", ""),
        "maintainer": fields.get("Maintainer", ""),
        "depends": " ".join(re.sub(r"[ ()]", "", item) for item in fields.get("Depends", "").split(",")),
    }
    target = output / f"{name}-{fields['Version']}.apk"
    texts = scripts(name)
    if apk := maker():
        by_apk(apk, stage, target, info, texts, epoch, key)
    else:
        tree, files = package_tree(stage, info, texts, epoch)
        signatures = [sign(key, PACKAGE, tree)] if key else []
        target.write_bytes(container(PACKAGE, tree, signatures, files))
    packed = target.stat().st_size
    size = sum(path.lstat().st_size for path in stage.rglob("*") if not is_directory(path))
    print(f"{target.name}: {-(-packed // 1024)} KiB to download, {-(-size // 1024)} KiB installed")


def lists(stage: Path, name: str) -> None:
    """Put into the package what OpenWrt's scripts read of it: its files, and which are configuration."""
    kept = stage / "lib/apk/packages"
    files = sorted(f"/{path.relative_to(stage)}\n" for path in stage.rglob("*") if not is_directory(path))
    kept.mkdir(parents=True)
    (kept / f"{name}.list").write_text("".join(files))
    conffiles = os.environ.get("IPK_CONFFILES", "").split()
    if conffiles:
        (kept / f"{name}.conffiles").write_text("".join(f"{path}\n" for path in conffiles))
    sums = [
        f"{path} {hashlib.sha256((stage / path[1:]).read_bytes()).hexdigest()}\n"
        for path in conffiles
        if (stage / path[1:]).is_file()
    ]
    if sums:
        (kept / f"{name}.conffiles_static").write_text("".join(sums))
    for path in [kept, kept.parent, kept.parent.parent, *kept.iterdir()]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def scripts(name: str) -> dict[str, str]:
    """The scripts of the package by the names that apk has for them."""

    def body(variable: str) -> str:
        lines = os.environ.get(variable, "").strip().splitlines()
        return "".join(f"{line}\n" for line in lines if not line.lstrip().startswith("#!"))

    functions = FUNCTIONS.format(name=name)
    install = SKIP + functions + "add_group_and_user\ndefault_postinst\n" + body("IPK_POSTINST")
    bodies = {
        "pre-install": body("IPK_PREINST"),
        "post-install": install,
        "pre-deinstall": functions + "default_prerm\n" + body("IPK_PRERM"),
        "post-deinstall": body("IPK_POSTRM"),
        "post-upgrade": "export PKG_UPGRADE=1\n" + install,
    }
    if bodies["pre-install"]:
        bodies["pre-upgrade"] = "export PKG_UPGRADE=1\n" + bodies["pre-install"]
    return {script: "#!/bin/sh\n" + text for script, text in bodies.items() if text}


def package_tree(
    stage: Path, info: dict[str, str], texts: dict[str, str], epoch: int
) -> tuple[bytes, Iterator[bytes]]:
    """The tree of a package, its values in the order of `apk mkpkg`, and the contents of its DATA blocks."""
    writer = Writer()
    about = [field(writer, name, info.get(name, "")) for name in INFO]
    below = [str(path.relative_to(stage)) for path in stage.rglob("*") if is_directory(path)]
    paths, contents, size = [], [], 0
    for number, name in enumerate(["", *sorted(below, key=os.fsencode)], 1):
        members = sorted((stage / name).iterdir(), key=lambda path: os.fsencode(path.name))
        members = [path for path in members if not is_directory(path)]
        files = [file(writer, path, epoch) for path in members]
        paths.append(
            writer.object([writer.blob(name), permissions(writer, stage / name), writer.object(files)])
        )
        for place, path in enumerate(members, 1):
            if not path.is_symlink() and (length := path.stat().st_size):
                contents.append((struct.pack("<II", number, place), path))
                size += length
    about[INFO.index("installed-size")] = writer.integer(size or 1)
    hashes = about[INFO.index("hashes")] = writer.blob(bytes(20), alone=True)
    parts = [writer.object(about), writer.object(paths)]
    parts.append(writer.object([writer.blob(texts.get(name, "")) for name in SCRIPTS]))
    tree = writer.finish(writer.object(parts))
    # The package is known by the start of the hash of its tree, taken while that place in it is zero.
    at, length = Reader(tree).where(hashes)
    tree[at : at + length] = hashlib.sha256(tree).digest()[:length]
    return bytes(tree), (head + path.read_bytes() for head, path in contents)


def field(writer: Writer, name: str, text: str) -> Value:
    """The value of a field of the package's description: text, or a list of dependencies."""
    if name not in ("depends", "provides", "replaces", "install-if", "recommends"):
        return writer.blob(text)
    rows = {(os.fsencode(named(item)[2]), dependency(writer, item)) for item in text.split()}
    return writer.object([row for _name, row in sorted(rows)])


def named(item: str) -> re.Match[str]:
    """The parts of a dependency in apk's syntax: [!]name[op version]. AdbError: it is none."""
    match = DEPENDENCY.fullmatch(item)
    if match is None:
        raise AdbError(f"{item!r} is no dependency")
    return match


def dependency(writer: Writer, item: str) -> Value:
    """One dependency: name, version, and how the installed version must compare with it."""
    conflict, name, signs, version = named(item).groups()
    how = CONFLICT if conflict else 0
    for sign_of_comparison in signs or "":
        how |= COMPARE[sign_of_comparison]
    slots = [writer.blob(name), writer.blob(version or "")]
    return writer.object(
        [*slots, NULL if how in (0, COMPARE["="]) else writer.integer(how | (0 if signs else ANY))]
    )


def file(writer: Writer, path: Path, epoch: int) -> Value:
    """A file or a symbolic link; the content of a file lies in a DATA block of its own."""
    name, content, target = writer.blob(path.name), NULL, NULL
    if path.is_symlink():
        where = os.fsencode(os.readlink(path))
        size, target = len(where), writer.blob(struct.pack("<H", stat.S_IFLNK) + where)
    else:
        raw = path.read_bytes()
        size, content = len(raw), writer.blob(hashlib.sha256(raw).digest())
    time, length = writer.integer(epoch), writer.integer(size)
    return writer.object([name, permissions(writer, path), length, time, content, target])


def permissions(writer: Writer, path: Path) -> Value:
    """Mode and owner: root, whoever builds."""
    root = writer.blob("root")
    return writer.object([writer.integer(stat.S_IMODE(path.lstat().st_mode)), root, root])


def is_directory(path: Path) -> bool:
    """Whether the path is a directory itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def index(output: Path, key: Path | None) -> None:
    """Write the index for `apk update`: each package's description, its size and the hash of its tree."""
    packages = sorted(output.glob("*.apk"))
    target = output / INDEX_FILE
    if apk := maker():
        signing = ["--sign-key", str(key)] if key else []
        run([apk, "mkndx", "--allow-untrusted", *signing, "--output", str(target), *map(str, packages)])
        return
    writer = Writer()
    rows = []
    for package in packages:
        tree = next(content for kind, content in blocks(package.read_bytes(), PACKAGE) if kind == BLOCK_ADB)
        reader = Reader(tree)
        about = reader.slot(reader.root, 1)
        slots = [reader.copy(value, writer) for value in reader.object(about)]
        slots += [NULL] * (len(INFO) - len(slots))
        slots[INFO.index("file-size")] = writer.integer(package.stat().st_size)
        slots[INFO.index("hashes")] = writer.blob(hashlib.sha256(tree).digest())
        rows.append((reader.blob(reader.slot(about, 1)), writer.object(slots)))
    every = writer.object([row for _name, row in sorted(rows)])
    tree = bytes(writer.finish(writer.object([NULL, every])))
    target.write_bytes(container(INDEX, tree, [sign(key, INDEX, tree)] if key else []))


def maker() -> str | None:
    """An apk-tools 3 of this machine that makes packages as root does it, or None."""
    apk = os.environ.get("TANDEM_APK", shutil.which("apk") or "")
    if not apk or os.geteuid():
        return None  # what it packs would belong to whoever builds
    done = subprocess.run([apk, "mkpkg"], capture_output=True, text=True)
    return apk if "required info field" in done.stderr else None  # a router's apk is built without mkpkg


def by_apk(
    apk: str,
    stage: Path,
    target: Path,
    info: dict[str, str],
    texts: dict[str, str],
    epoch: int,
    key: Path | None,
) -> None:
    """Let apk-tools make the package."""
    argv = [apk, "mkpkg", "--files", str(stage), "--output", str(target)]
    argv += [word for name, text in info.items() if text for word in ("--info", f"{name}:{text}")]
    argv += ["--sign-key", str(key)] if key else []
    directory = stage.with_name(stage.name + ".scripts")
    directory.mkdir(exist_ok=True)
    for name, text in texts.items():
        (directory / name).write_text(text)
        argv += ["--script", f"{name}:{directory / name}"]
    run(argv, epoch)


def run(argv: list[str], epoch: int | None = None) -> None:
    environment = dict(os.environ) if epoch is None else os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
