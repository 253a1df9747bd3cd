# SPDX-License-Identifier: GPL-2.0-or-later
"""A router of the lab made of a genuine root file system with LuCI, in a throw-away overlay.

Its ubusd, logd, procd, rpcd, uhttpd and LuCI run there; Python comes from another root, where this one has
none. The packages are those of `make ipk`, unpacked. A checkout of LuCI's sources may take the place of the
root's LuCI: all of LuCI but the parts in C.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import Host, wait_until
from tests.lab.process import tree
from tests.openwrt_pieces import ROOT, ROOT23
from tests.packaging.router import DIES_WITH_US, OPENWRT_SERVICES, ROOT_OVERLAY
from tests.packaging.router_feeds import SQLITE3, pyroute2, stdlib

from .rig import DHCP, NETWORK, Pair

# The module `log` of ucode, which came after 23.05 and which newer LuCI imports.
_LOG = """
export const LOG_INFO = 6, LOG_NOTICE = 5, LOG_WARNING = 4, LOG_AUTHPRIV = 80, LOG_LOCAL0 = 128;
export function openlog() {};
export function syslog(priority, ...text) { warn(sprintf(...text), "\\n"); };
export function closelog() {};
"""
# What LuCI's luci.mk installs, in the place of what the root has. $LUCI: the sources.
_NEWER = """
rm -rf www/luci-static usr/share/ucode/luci usr/share/luci/menu.d/* usr/share/rpcd/acl.d/luci-*
for part in "$LUCI"/modules/luci-base "$LUCI"/modules/luci-mod-* "$LUCI"/libs/luci-lib-uqr \\
    "$LUCI"/themes/luci-theme-bootstrap; do
    for pair in htdocs:www ucode:usr/share/ucode/luci root:.; do
        [ ! -d "$part/${pair%:*}" ] || { mkdir -p "${pair#*:}"; cp -a "$part/${pair%:*}/." "${pair#*:}/"; }
    done
done
echo "export const revision = 'git', branch = 'git';" >usr/share/ucode/luci/version.uc
[ -e usr/lib/ucode/log.so ] || printf %s "$LOG" >usr/share/ucode/log.uc
"""
# $PYTHON: the root that has Python, $DATA: the packages' files, $USERS: for rpcd.
_SETUP = f"""hostname "$NAME"
{ROOT_OVERLAY}
mkdir -p tmp/luci-sessions
[ -z "$LUCI" ] || {{ {_NEWER} }}
if [ ! -e usr/bin/python3 ]; then
    cp -a "$PYTHON"/usr/bin/python3* usr/bin/
    cp -a "$PYTHON/usr/lib/python3.10" usr/lib/
    cp -an "$PYTHON"/usr/lib/*.so* usr/lib/
fi
cp -a "$DATA"/. .
printf %s "$NETWORK" >etc/config/network
printf %s "$DHCP" >etc/config/dhcp
printf %s "$USERS" >>etc/config/rpcd
rm -f tmp/luci-indexcache*
exec chroot . /bin/sh -c '{OPENWRT_SERVICES}
    for file in /etc/uci-defaults/luci-i18n-tandem-*; do sh "$file"; done
    /sbin/rpcd &
    until ubus list tandem.commands >/dev/null 2>&1; do sleep 1; done
    /usr/sbin/uhttpd -f -h /www -r router -x /cgi-bin \\
        -u /ubus -t 60 -T 30 -n 8 -N 100 -p 0.0.0.0:80 &
    touch /tmp/ready
    exec sleep 3600'
"""
_USERS = """
config login
	option username 'viewer'
	option password '$1$tandem$cpQd9Oyheqdeo61s7/uYe.'
	list read '*'
"""


def unpacked(target: Path) -> Path:
    """Make the packages and unpack them into one directory."""
    ipks = target / "ipk"
    subprocess.run(
        ["make", "--silent", "ipk", f"VENV={sys.prefix}", f"IPK_DIR={ipks}", "FEED_KEYS=/nowhere",
         "PACKAGE_SOURCES=tandem luci-app-tandem"],
        check=True, capture_output=True, cwd=Path(__file__).parents[2], env=_plain(),
    )  # fmt: skip
    data = target / "data"
    data.mkdir()
    for package in ipks.glob("*.ipk"):
        inner = subprocess.run(
            ["tar", "-xzOf", package, "./data.tar.gz"], check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-xzC", data], input=inner, check=True)
    # What the root lacks of Python, and pyroute2, as in the tests of the packages.
    library = data / "usr/lib/python3.10"
    for name, source in [*stdlib(), *((f"site-packages/{name}", path) for name, path in pyroute2())]:
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, library / name)
    (library / "sqlite3.py").write_text(SQLITE3)
    return data


def _plain() -> dict[str, str]:
    """This environment without that of a `make` that runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def boot(router: Host, number: int, data: Path, luci: Path | None = None) -> None:
    """Start the router with its addresses 192.168.*.NUMBER, and wait until it serves pages.

    `luci`: LuCI's sources; None: the root's own.
    """
    work = router.file("work")
    work.mkdir()
    values = {
        "WORK": work, "LOWER": ROOT23, "PYTHON": ROOT, "DATA": data,
        "NETWORK": NETWORK.format(number=number), "DHCP": DHCP, "USERS": _USERS,
        "LUCI": luci or "", "LOG": _LOG, "NAME": router.name,
    }  # fmt: skip
    with router.file("log").open("ab") as log:
        boot = router.popen(
            "env", *(f"{name}={value}" for name, value in values.items()),
            *DIES_WITH_US, "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL",
            "sh", "-c", _SETUP,
            stdout=log, stderr=log,
        )  # fmt: skip

    def serves() -> bool:
        assert boot.poll() is None, router.file("log").read_text()
        return "200" in router.exec(
            "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1/luci-static/resources/luci.js",
            check=False,
        )  # fmt: skip

    wait_until(serves, 60, f"{router.name} serves pages", explain=lambda: router.file("log").read_text())


# For each process its name and the nanoseconds of a core that it has used.
_COST = "cd /proc && for p in [0-9]*; do echo $(cat $p/comm) $(cut -d\\  -f1 $p/schedstat); done 2>/dev/null"


def services(pair: Pair) -> None:
    """Write the program that does what `service tandem VERB` does on a router: its arguments are both.

    The verb `cost` prints what the router's processes have used.
    """
    lines = ["#!/bin/sh", "case $1 in"]
    for router in pair.routers:
        inside = next(
            pid for pid in tree(router.children[-1].pid) if Path(f"/proc/{pid}/root/tmp/ready").exists()
        )
        enter = f"nsenter --target={inside} --mount --pid --net --uts --ipc --root --wd=/"
        lines.append(
            f'{router.name}) if [ "$2" = cost ]; then exec {enter} /bin/sh -c {shlex.quote(_COST)}; fi'
        )
        lines.append(f'exec {enter} /etc/init.d/tandem "$2" ;;')
    program = pair.directory / "service"
    program.write_text("\n".join([*lines, "esac", ""]))
    program.chmod(0o755)
