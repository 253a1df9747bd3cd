# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandemd --clear` removes everything that a killed daemon has left, when no other daemon follows.

Virtual addresses expire by themselves; macvlans, static addresses and routes, rules, nftables and sysctls
would stay. The table that keeps this router from answering DHCP does stay: `tandem dhcp release` removes it.
"""

from __future__ import annotations

import os

from tandem.control.server import ControlServer
from tandem.effects.firewall import Firewall
from tandem.effects.fw4 import Fw4
from tandem.effects.interfaces import Interfaces
from tandem.effects.rtnl import Rtnl
from tandem.loop import Loop
from tandem.plan.result import PlanError
from tandem.plan.runner import Planning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.log import Logger


def clear(package_dir: str, config_file: str, control: str, log: Logger) -> int:
    """Clear, and return the exit status; 1: a daemon runs, or there is no plan, and nothing was cleared."""
    loop = Loop()
    try:
        server = ControlServer(loop, control, lambda _request, _reply: None, log.warning)  # the lock
    except OSError as error:
        log.error(f"not cleared: {error}")
        return 1
    try:
        plan = Planning(loop, package_dir, config_file).first()
        rtnl = Rtnl()
        Interfaces(loop, rtnl, plan, os.path.dirname(control), log).clear()
        rtnl.close()
        firewall = Firewall(plan)
        firewall.clear_former()
        firewall.close()
        Fw4(loop, log, os.path.dirname(control)).close()
    except (PlanError, OSError) as error:
        log.error(f"not cleared: {error}")
        return 1
    finally:
        server.close()
    return 0
