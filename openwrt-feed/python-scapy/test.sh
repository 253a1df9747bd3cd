#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later

[ "$1" = python3-scapy ] || exit 0
python3 -c '
from scapy.layers.inet import IP
from scapy.layers.vrrp import VRRP
packet = VRRP(bytes(VRRP(vrid=51, priority=101, addrlist=["192.0.2.1"])))
assert (packet.vrid, packet.priority, packet.addrlist) == (51, 101, ["192.0.2.1"])
'
