# SPDX-License-Identifier: GPL-2.0-or-later
"""Rights over HTTP: the ACL files that the package brings, read by the genuine rpcd."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tandem.control.command_table import TABLE
from tandem.control.requests import METHODS
from tests.lab.router import ROOT as CHECKOUT
from tests.openwrt_pieces import OVERLAY, ROOT, UBUSD, needs

FILES = CHECKOUT / "files/usr/share/rpcd/acl.d"
READING = {"status", "history", "conntrack", "services", "checks"}
OPERATING = {"failover", "standby", "resume", "service"}

_USERS = "".join(
    f"""
config login
	option username '{name}'
	option password '$1$tandem$cpQd9Oyheqdeo61s7/uYe.'
{rights}"""
    for name, rights in (
        ("viewer", "\tlist read 'tandem-status'\n"),
        ("reader", "\tlist read '*'\n"),
        ("operator", "\tlist read 'tandem-status'\n\tlist write 'tandem-operate'\n"),
        ("admin", "\tlist read 'tandem-status'\n\tlist write 'tandem-configure'\n"),
        ("nobody", "\tlist read 'luci-base'\n"),
    )
)

_SCRIPT = f"""{OVERLAY}
mkdir -p usr/share/rpcd/acl.d
cp "$FILES"/*.json usr/share/rpcd/acl.d/
printf %s "$USERS" >etc/config/rpcd
{UBUSD}
chroot . /sbin/rpcd >/dev/null 2>&1 &
until chroot . ubus list session >/dev/null 2>&1; do sleep 0.05; done
for user in viewer reader operator admin nobody; do
    chroot . ubus -S call session login "{{\\"username\\": \\"$user\\", \\"password\\": \\"secret\\"}}"
done
"""


def test_every_method_is_in_exactly_one_file() -> None:
    groups = {
        name: json.loads((FILES / f"{name}.json").read_text())[name]
        for name in ("tandem-status", "tandem-operate", "tandem-configure")
    }
    assert {path.stem for path in FILES.iterdir()} == set(groups)
    status, operate, configure = groups.values()
    assert set(status) == {"description", "read"}
    assert set(operate) == set(configure) == {"description", "write"}
    methods = [status["read"], operate["write"], configure["write"]]
    every = [method for part in methods for method in part["ubus"]["tandem"]]
    assert sorted(every) == sorted(METHODS)
    plugin = [method for part in methods for method in part["ubus"]["tandem.commands"]]
    assert sorted(plugin) == sorted(c.method for c in TABLE if c.plugin is not None)
    assert set(status["read"]["ubus"]["tandem"]) == READING


def test_only_who_may_become_root_may_configure() -> None:
    """The configuration names scripts that run as root: the group that may write it says so."""
    for path in FILES.iterdir():
        group = json.loads(path.read_text())[path.stem]
        configures = "uci" in group.get("write", {}) or "uci" in group.get("read", {})
        assert configures == ("can run commands as root" in group["description"]), path.name
        assert configures == (path.stem == "tandem-configure")


@needs(ROOT / "sbin/rpcd", ROOT / "sbin/ubusd")
def test_rpcd_grants_what_they_say(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "WORK": str(tmp_path), "LOWER": str(ROOT)}
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "sh", "-c", _SCRIPT],
        env=environment | {"FILES": str(FILES), "USERS": _USERS},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    logins = [json.loads(line)["acls"] for line in done.stdout.splitlines()]
    viewer, reader, operator, admin, nobody = (set(acls.get("ubus", {}).get("tandem", ())) for acls in logins)
    assert viewer == READING and reader == READING
    assert operator == READING | OPERATING
    assert admin == READING | {"reload"}
    assert nobody == set()
    uci = [set(acls.get("uci", {}).get("tandem", ())) for acls in logins]
    assert uci == [set(), set(), set(), {"read", "write"}, set()]  # the secrets are for who may change them
