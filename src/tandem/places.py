# SPDX-License-Identifier: GPL-2.0-or-later
"""The files and the values that `tandem init` proposes, and that other commands name as well."""

CONFIG = "/etc/config/tandem"
NETWORK = "/etc/config/network"
DHCP = "/etc/config/dhcp"
FIREWALL = "/etc/config/firewall"
SECRET_FILE = "/etc/tandem/secret"
DEFAULT_VRID = 51
DEFAULT_ADVERT_INT = "0.2"  # seconds
