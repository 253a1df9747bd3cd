# SPDX-License-Identifier: GPL-2.0-or-later
"""The processors that a machine can have, and what each is called by Debian, by Linux and by QEMU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One row: `emulator` is started with `machine`; `cpu` is the model where KVM does not work.

    `gnu` begins the names of the compiler and its libraries' directory.
    """

    debian: str
    kernel: str  # Debian's meta-package
    gnu: str
    console: str
    emulator: str
    machine: tuple[str, ...]
    cpu: str


ARCHITECTURES = {
    "x86_64": Architecture(
        "amd64",
        "linux-image-cloud-amd64",
        "x86_64-linux-gnu",
        "ttyS0",
        "qemu-system-x86_64",
        ("-M", "pc"),
        "max",
    ),
    "aarch64": Architecture(
        "arm64",
        "linux-image-cloud-arm64",
        "aarch64-linux-gnu",
        "ttyAMA0",
        "qemu-system-aarch64",
        ("-M", "virt,gic-version=max"),
        "cortex-a53",
    ),
    # 32 bits. The kernel has no LPAE: it reaches nothing above 4 GiB, where QEMU would put the PCI bus.
    "armv7": Architecture(
        "armhf",
        "linux-image-armmp",
        "arm-linux-gnueabihf",
        "ttyAMA0",
        "qemu-system-arm",
        ("-M", "virt,highmem=off"),
        "cortex-a15",
    ),
    # 64 bits, big-endian, as many of OpenWrt's MIPS routers are: nothing else here shows that this works.
    "s390x": Architecture(
        "s390x",
        "linux-image-s390x",
        "s390x-linux-gnu",
        "ttysclp0",
        "qemu-system-s390x",
        ("-M", "s390-ccw-virtio"),
        "max",
    ),
}
