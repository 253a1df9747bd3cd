# SPDX-License-Identifier: GPL-2.0-or-later
"""What Tandem uses of OpenWrt's own programs: the table that docs/openwrt.md shows and roots are held to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Interface:
    """A row: what is used, how a router is asked for it, and a file whose text shows that it is there."""

    name: str
    probed: str
    file: str  # patterns below the root
    text: str


INTERFACES = (
    Interface("libubus", "its file, whatever its name", "lib/libubus.so*", "ubus_invoke_fd"),
    Interface(
        "netifd: `network.interface`, `status`, `set_data`",
        "the object on ubus; without it names are devices",
        "sbin/netifd",
        "set_data",
    ),
    Interface("procd: `term_timeout`", "not probed", "lib/functions/procd.sh", "term_timeout"),
    Interface(
        "procd: reload trigger for `tandem`",
        "not probed",
        "lib/functions/procd.sh",
        "procd_add_reload_trigger",
    ),
    Interface("rc.common: `running`", "not probed", "etc/rc.common", "running"),
    Interface(
        "`reload_config`: config.md5", "the postinst looks for its line", "sbin/reload_config", "config.md5"
    ),
    Interface("fw4: /usr/share/nftables.d", "/var/run/fw4.state", "usr/share/ucode/fw4.uc", "nftables.d"),
    Interface(
        "dnsmasq: `conf-dir`, `force` in /var/state/dhcp",
        "the options of the running dnsmasq, then /etc/config/dhcp",
        "etc/init.d/dnsmasq",
        "conf-dir",
    ),
    Interface("dnsmasq: DHCPv6 options", "`dnsmasq --version`", "usr/sbin/dnsmasq", "DHCPv6"),
    Interface("odhcpd: `dns` of a network's `data`", "not probed", "usr/sbin/odhcpd", "network.interface"),
    Interface("rpcd: acl.d", "not probed", "sbin/rpcd", "acl.d"),
    Interface("sysupgrade: `--test`, keep.d", "the program", "sbin/sysupgrade", "keep.d"),
    Interface("opkg or apk", "the program; apk first", "bin/opkg usr/bin/apk", "upgradable"),
    Interface("packages: `PKG_UPGRADE`", "not probed", "lib/functions.sh", "PKG_UPGRADE"),
)


def missing(root: Path) -> list[str]:
    """Return the names of the interfaces that a root file system does not have."""
    return [row.name for row in INTERFACES if not _has(root, row)]


def _has(root: Path, row: Interface) -> bool:
    files = (path for pattern in row.file.split() for path in root.glob(pattern))
    return any(row.text.encode() in path.read_bytes() for path in files)
