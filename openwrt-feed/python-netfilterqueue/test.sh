#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later

[ "$1" = python3-netfilterqueue ] || exit 0
python3 -c '
from netfilterqueue import NetfilterQueue
NetfilterQueue().unbind()
'
