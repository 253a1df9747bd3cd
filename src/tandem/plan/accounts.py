# SPDX-License-Identifier: GPL-2.0-or-later
"""Users and groups that a configuration names and this router does not have."""

from __future__ import annotations

from tandem.programs import credentials_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.config.schema import Config


def unknown_accounts(config: Config) -> list[str]:
    """Return one text for each user or group that scripts require and this router lacks."""
    wanted = [("script_user", config.globals.script_user, config.globals.script_group)]
    wanted += [(f"user of the vrrp_script {item.name}", item.user, item.group) for item in config.scripts]
    unknown = []
    for what, user, group in wanted:
        try:
            credentials_of(user, group)
        except KeyError as error:
            unknown.append(f"{what}: {error.args[0]}")
    return unknown
