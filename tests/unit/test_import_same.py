# SPDX-License-Identifier: GPL-2.0-or-later
"""An imported configuration does what the original did. Where it can't, the command says so."""

from __future__ import annotations

from tests.unit.importing import Imported, instance

DEFAULT_ROUTE = "virtual_routes {\n  default via 10.0.0.254 dev eth0\n }"


class TestTranslation:
    """keepalived never translates addresses."""

    def test_snat_is_not_switched_on(self, imported: Imported) -> None:
        assert imported.run(k_conf=instance(DEFAULT_ROUTE)).status == 0
        assert imported.only.snat is None and "option snat '0'" in imported.out
        [note] = imported.said("note")
        assert note.startswith("k.conf:1: 'vrrp_instance V'") and "snat 1" in note

    def test_nothing_is_said_where_there_is_nothing_to_translate(self, imported: Imported) -> None:
        imported.run(k_conf=instance())
        assert "snat" not in imported.out and imported.said("note") == []

    def test_openwrts_routes(self, imported: Imported) -> None:
        text = """
config route
	option name 'up'
	option address 'default'
	option gateway '10.0.0.254'
config vrrp_instance
	option name 'V'
	option interface 'eth0'
	option virtual_router_id '7'
	list virtual_ipaddress '10.0.0.1/24'
	list virtual_routes 'up'
"""
        assert imported.run(k_uci=text).only.snat is None
