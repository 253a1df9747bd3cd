#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What OpenWrt's CI runs after it has installed a package: $1 its name, $2 its version.

case "$1" in
tandem)
	tandemd --version | grep -F "${2%-r*}" || exit 1
	tandem check /etc/config/tandem >/dev/null || exit 1
	# As shipped it is off.
	tandemd --check -c /etc/config/tandem
	[ $? = 3 ] || exit 1
	;;
tandem-gate)
	python3 -c 'import netfilterqueue' || exit 1
	;;
tandem-import)
	tandem import - >/dev/null <<END || exit 1
vrrp_instance I1 {
	interface br-lan
	virtual_router_id 51
	virtual_ipaddress {
		192.168.1.4/24
	}
}
END
	;;
tandem-tools)
	tandem capture --help >/dev/null || exit 1
	python3 -c 'import scapy.layers.vrrp' || exit 1
	;;
esac
