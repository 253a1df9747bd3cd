# SPDX-License-Identifier: GPL-2.0-or-later
"""How long services outlive a daemon that hangs: the peers must not have started them by then."""

from __future__ import annotations

from dataclasses import replace

from tandem.config.load import load_text
from tandem.config.schema import Config
from tandem.core.limits import ANSWER_LIMIT
from tandem.core.timers import MILLISECOND
from tandem.serving import hang_limit

TEXT = """
config globals 'globals'
	option enabled '1'
	option router_id 'a'
config peer 'b'
	list address '192.168.1.3'
	option secret 'of the lab, and of nothing else'
config vrrp_instance
	option name 'V1'
	option interface 'eth0'
	option virtual_router_id '51'
	option advert_int '1'
	list virtual_ipaddress '192.168.1.4/24'
"""


def limit(config: Config, **settings: int) -> int:
    return hang_limit(replace(config, globals=replace(config.globals, **settings))) // MILLISECOND


def test_a_daemon_that_hangs_ends_before_its_peer_starts_the_services() -> None:
    config = load_text(TEXT, "tandem").config
    assert config is not None
    missed = config.globals.heartbeat_interval_ms * config.globals.heartbeat_miss
    assert missed < limit(config) == 275 < missed + ANSWER_LIMIT // MILLISECOND - 100
    assert limit(config, heartbeat_interval_ms=0) == 3000, "three adverts"
    assert limit(config, heartbeat_interval_ms=0, address_lifetime_s=2) == 2000
    assert limit(config, address_lifetime_s=0) == 0, "only the end of the daemon counts"
    alone = replace(config, peers=())
    assert limit(alone) == 3000
