# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem init`: from a few answers to a configuration, on two routers."""

CONFIG = "/etc/config/tandem"
NETWORK = "/etc/config/network"
DHCP = "/etc/config/dhcp"
SECRET_FILE = "/etc/tandem/secret"
DEFAULT_VRID = 51
DEFAULT_ADVERT_INT = "0.2"  # seconds
