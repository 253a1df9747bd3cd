# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor on a kernel that lacks modules, as a router without the kmod packages does."""

from __future__ import annotations

import json
from collections.abc import Callable

from qemu.router import Pair, RouterMachine, pair_config

MODULES = {
    "macvlan": "macvlan (kmod-macvlan)",
    "nf_conntrack_netlink": "conntrack netlink (kmod-nf-conntrack-netlink)",
    "nft_chain_nat": "source NAT with nftables (kmod-nft-nat)",
}


def lacking(router: RouterMachine) -> set[str]:
    """Return the features that the router's kernel lacks, as the doctor reports them."""
    findings = json.loads(router.run("tandem doctor --json || true", 120))["findings"]
    return {item["what"] for item in findings if item["check"] == "kernel"}


def test_missing_modules_are_told_lab_x86_64(pair: Callable[..., Pair]) -> None:
    """The guest has no module files: what is unloaded can't come back, as if it had never been installed."""
    router = pair("lab-x86_64").r1
    router.run("lab-install /root/tandem_*.ipk", 120)
    vmac = "\toption use_vmac '1'\n\toption virtual_router_id"
    config = pair_config(1).replace("\toption virtual_router_id", vmac)
    router.console.write("/etc/config/tandem", config)
    assert lacking(router) == set()
    for module, feature in MODULES.items():
        router.run(f"rmmod {module}")
        assert f"the kernel lacks {feature}" in lacking(router)
    assert len(lacking(router)) == len(MODULES)
