# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair of OpenWrt upgrades itself: `tandem upgrade` on one of them, while a client has 20 downloads."""

from __future__ import annotations

from collections.abc import Callable

from qemu.package_tool import PackageTool
from qemu.router import Pair
from qemu.traffic import traffic


def test_a_pair_upgrades_itself_root_x86_64(pair: Callable[..., Pair]) -> None:
    """The active router orders it: so its own daemon, and the session to its peer, end on the way."""
    lab = pair("root-x86_64")
    lab.set_up()
    active = lab.in_step()
    other = lab.other(active)
    before = {router: router.pid() for router in lab.routers}
    with traffic(lab, 20) as client:
        for router in lab.routers:
            router.run(PackageTool.of(router).follow("next"))
        said = active.run("tandem upgrade", 900)
        assert "finished; " in said, said
        client.go_on(120)
        assert lab.in_step() is other, "nopreempt"
        for router in lab.routers:
            assert "0.1.0-r2" in router.run(PackageTool.of(router).version("tandem"))
            assert router.pid() != before[router]
        client.go_on(120)
