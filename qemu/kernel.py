# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel, and an initramfs that loads its modules and hands over to the root on the first disk.

It serves every guest that does not bring its own kernel. All modules are loaded before the guest's init
runs, so the guest needs none of its own and no tool that loads them.
"""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import cache, cpio
from .architectures import ARCHITECTURES
from .debian import Debian

# The drivers of the machine, and the modules of OpenWrt's kmod packages.
_MODULES = """
    virtio_pci virtio_blk virtio_net virtio_console crc32c_generic ext4
    bridge 8021q bonding macvlan veth tun
    nf_conntrack nf_conntrack_netlink nf_conntrack_ftp nf_nat_ftp nfnetlink_log nfnetlink_queue
    nf_tables nft_chain_nat nft_ct nft_nat nft_masq nft_redir nft_queue nft_reject nft_reject_inet
    nft_fib nft_fib_inet nft_limit nft_log nft_hash nft_numgen nft_objref nft_quota nft_connlimit
    nf_flow_table nf_flow_table_inet nft_flow_offload
"""
# Of networks by which routers reach a provider or each other; Debian's kernel for clouds lacks those of PPP.
_MORE_MODULES = "slhc ppp_generic ppp_async pppox pppoe wireguard"

_INIT = Path(__file__).with_name("guest") / "initramfs-init"


@dataclass(frozen=True)
class Kernel:
    """Files to boot from."""

    image: Path
    initrd: Path
    release: str


def debian_kernel(architecture: str, more: bool = False) -> Kernel:
    """Debian's kernel for that architecture, from the cache or newly packed.

    `more`: a bigger one, with PPP and WireGuard.
    """
    debian = Debian(architecture)
    meta = ARCHITECTURES[architecture].kernel
    package = debian.only(debian.kernel(meta.replace("-cloud", "") if more else meta))
    wanted = _MODULES + _MORE_MODULES if more else _MODULES
    busybox = debian.only("busybox-static")
    sources = [_INIT, Path(__file__), Path(cpio.__file__)]
    name = cache.key([*package.values(), *busybox.values(), *sources, wanted])

    def make(place: Path) -> None:
        root = place / "root"
        debian.unpack(package | busybox, root)
        (image,) = root.glob("boot/vmlinuz-*")
        release = image.name.partition("-")[2]
        modules = list(_order(root / "lib/modules" / release, wanted.split()))
        files: dict[str, bytes | Path] = {
            "/init": _INIT.read_bytes(),
            "/bin/busybox": root / "bin/busybox",
            "/modules/order": "".join(f"{path.name}\n" for path in modules).encode(),
        }
        files |= {f"/modules/{path.name}": path for path in modules}
        for empty in ("dev", "proc", "sys", "root"):
            files[f"/{empty}/.keep"] = b""
        packed = gzip.compress(cpio.archive(files, {"/init"}), 6, mtime=0)
        # Another archive may follow, which the kernel looks for at a multiple of four.
        (place / "initrd").write_bytes(packed + bytes(-len(packed) % 4))
        image.rename(place / "kernel")
        (place / "release").write_text(release)
        shutil.rmtree(root)

    place = cache.build(f"kernel-{architecture}", name, make)
    return Kernel(place / "kernel", place / "initrd", (place / "release").read_text())


def _order(directory: Path, wanted: Iterable[str]) -> Iterator[Path]:
    """The modules and what they need, each after what it needs; those built into the kernel are left out."""
    builtin = {_plain(line) for line in (directory / "modules.builtin").read_text().split()}
    files = {_plain(str(path)): path for path in directory.rglob("*.ko")}
    done: set[str] = set()

    def visit(name: str) -> Iterator[Path]:
        if name in done or name in builtin:
            return
        done.add(name)
        depends = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        for other in depends[1].decode().split(",") if depends and depends[1] else ():
            yield from visit(_plain(other))
        yield files[name]

    for name in wanted:
        yield from visit(name)


def _plain(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")
