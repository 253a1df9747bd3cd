# SPDX-License-Identifier: GPL-2.0-or-later
"""opkg install, upgrade and remove, and the service, on OpenWrt's own root file system with its procd."""

from __future__ import annotations

import json
import re

import pytest

from tests.lab.wait import stays, wait_until
from tests.packaging.conftest import on_each_release
from tests.packaging.router import OpenWrt, needs_router
from tests.packaging.router_feeds import no_planner

pytestmark = [needs_router, on_each_release]
needs_planner = pytest.mark.skipif(no_planner() is not None, reason=str(no_planner()))

CONFIG = """config globals 'globals'
	option enabled '1'
	option address_lifetime '3'

config vrrp_instance 'I1'
	option interface 'lan0'
	option virtual_router_id '51'
	option priority '{priority}'
	option version '3'
	option advert_int '0.1'
	option use_vmac '1'
	list virtual_ipaddress '192.168.1.4/24'
	list virtual_routes 'src 192.168.1.4 to 0.0.0.0/0 via 192.168.1.1 dev lan0'
"""
STATIC = """
config static_routes
	list route '192.168.7.0/24 via 192.168.1.1 dev lan0'
"""
ARP_IGNORE = "cat /proc/sys/net/ipv4/conf/lan0/arp_ignore"
OF_A_RUN = "192.168.1.4|vrrp|tandem"


def install(router: OpenWrt) -> None:
    """The package, an interface, and nothing that runs."""
    router.sh("opkg install tandem")
    router.add_lan()


def configure(router: OpenWrt, text: str = CONFIG.format(priority=150)) -> None:
    router.write("/etc/config/tandem", text)


def pid(router: OpenWrt) -> int:
    """The process that procd runs; 0: none."""
    services = json.loads(router.sh("""ubus call service list '{"name":"tandem"}'"""))
    instances = services.get("tandem", {}).get("instances", {}).values()
    return next((instance.get("pid", 0) for instance in instances if instance["running"]), 0)


def leave_bytecode_only(router: OpenWrt) -> None:
    """As python3-package.mk packs it: bytecode in the place of the sources."""
    router.sh("find /usr/lib/tandem -name __pycache__ -prune -exec rm -r {} +")
    program = "import py_compile, sys; [py_compile.compile(path, path + 'c') for path in sys.argv[1:]]"
    router.sh(f'find /usr/lib/tandem -name "*.py" -exec python3 -c "{program}" {{}} +')
    router.sh("find /usr/lib/tandem -name '*.py' -exec rm {} +")


def becomes_active(router: OpenWrt) -> None:
    """Each look starts a Python, so they are far between."""
    wait_until(
        lambda: active(router),
        30,
        "the only router is active",
        every=0.5,
        explain=lambda: router.sh("tandem status; ip addr; ps w", status=None) + router.log,
    )


def active(router: OpenWrt) -> bool:
    return "MASTER" in router.sh("tandem status", status=None) and "192.168.1.4/24" in router.sh("ip addr")


def traces(router: OpenWrt) -> list[str]:
    """Return the traces of a run in the kernel and in the file system."""
    seen = router.sh(
        "ip addr; ip route show table all; ip rule; nft list tables; find /var/run/ -name control.sock"
    )
    return [line for line in seen.splitlines() if re.search(OF_A_RUN, line)]


@needs_planner
def test_install_and_remove(router: OpenWrt) -> None:
    before = router.sh("find / -xdev -not -path '/usr/lib/opkg/*' -not -path '/usr/lib/python*' | sort")
    router.sh("fw4 start")
    router.sh("mv /sbin/fw4 /tmp/fw4 && chmod +x /tmp/fw4")
    router.write("/sbin/fw4", '#!/bin/sh\necho "$*" >>/tmp/fw4.calls\nexec /tmp/fw4 "$@"\n')
    router.sh("chmod +x /sbin/fw4")
    install(router)
    router.sh("nft list chain inet fw4 tandem_input")  # the firewall has been told, once
    assert router.sh("cat /tmp/fw4.calls") == "-q reload\n"
    assert router.sh("ls -l /etc/config/tandem").startswith("-rw------- ")
    assert router.sh("ls /etc/rc.d | grep tandem").split() == [
        "K01tandem",
        "S18tandem-dhcp",
        "S21tandem",
        "S21tandem-witness",
    ]
    router.sh("/etc/init.d/tandem enabled")
    assert router.sh("tandemd --version") == "tandemd 0.1.0\n"
    router.sh("sh /srv/test.sh tandem 0.1.0-r1")
    router.sh("sh /srv/test.sh tandem 9.9.9-r1", status=1)
    assert "option virtual_router_id '51'" in router.sh("tandem check /etc/config/tandem")
    assert "On OpenWrt: opkg install tandem-tools" in router.sh("tandem capture lan0", status=1)
    assert "On OpenWrt: opkg install tandem-import" in router.sh("tandem import", status=1)
    router.sh("opkg install tandem-import && sh /srv/test.sh tandem-import 0.1.0-r1")
    router.sh('opkg remove tandem-import; test -z "$(find /usr/lib/tandem/tandem/importer -type f)"')
    assert "opkg install tandem-import" in router.sh("tandem import", status=1)
    kept = router.sh("sysupgrade -l").split()
    assert "/etc/config/tandem" in kept
    # Sources were compiled once, and no migration is left for the next start.
    sources = router.sh("find /usr/lib/tandem -name '*.py' | wc -l")
    assert sources == router.sh("find /usr/lib/tandem -name '*.cpython-310.pyc' | wc -l")
    router.sh("test ! -e /etc/uci-defaults/tandem")
    # As shipped it is off: nothing runs, and nothing is tried again and again.
    assert pid(router) == 0
    router.sh("/etc/init.d/tandem restart")
    stays(lambda: pid(router) == 0, 1, "enabled is 0", every=0.2)
    router.sh(": >/tmp/fw4.calls; opkg remove tandem")
    assert router.sh("cat /tmp/fw4.calls; mv /tmp/fw4 /sbin/fw4; rm /tmp/fw4.calls") == "-q reload\n"
    ruleset = router.sh("nft list table inet fw4")
    assert "chain input" in ruleset and "tandem" not in ruleset
    router.sh("rm -f /tmp/lock/*")
    after = router.sh("find / -xdev -not -path '/usr/lib/opkg/*' -not -path '/usr/lib/python*' | sort")
    assert set(after.splitlines()) - set(before.splitlines()) == set()


def test_install_into_an_image(router: OpenWrt) -> None:
    """As the image builder does: what has to run on the router is left for its first start."""
    router.sh("mkdir -p /tmp/image/etc /tmp/image/var/lock /tmp/image/usr/lib /tmp/image/etc/rc.d")
    router.sh("cp -a /lib /tmp/image/lib && cp -a /etc/rc.common /etc/opkg* /tmp/image/etc/")
    router.sh("mkdir -p /tmp/image/usr/share && cp -a /usr/share/libubox /tmp/image/usr/share/")
    router.sh("cp -a /usr/lib/opkg /tmp/image/usr/lib/")
    opkg = "IPKG_INSTROOT=/tmp/image opkg -o /tmp/image -f /tmp/image/etc/opkg.conf"
    router.sh(f"{opkg} update && {opkg} install tandem")
    # include/rootfs.mk runs the scripts then, as opkg runs none for another root.
    router.sh("IPKG_INSTROOT=/tmp/image sh /tmp/image/usr/lib/opkg/info/tandem.postinst")
    assert router.sh("ls /tmp/image/etc/rc.d | grep 'tandem$'").split() == ["K01tandem", "S21tandem"]
    router.sh("test -f /tmp/image/etc/uci-defaults/tandem")
    assert router.sh("find /tmp/image/usr/lib/tandem -name __pycache__") == ""
    router.sh("test ! -e /etc/config/tandem && test ! -e /etc/rc.d/S21tandem")
    # The first start.
    router.sh("cp -a /tmp/image/etc/config /tmp/image/etc/init.d /tmp/image/etc/uci-defaults /etc/")
    router.sh("cp -a /tmp/image/usr/lib/. /usr/lib/ && cp -a /tmp/image/usr/sbin /tmp/image/usr/bin /usr/")
    router.sh("cd /etc/uci-defaults && . ./tandem")
    assert "uci.cpython-310.pyc" in router.sh("ls /usr/lib/tandem/tandem/config/__pycache__")
    router.sh("tandemd --check", status=3)


def test_who_is_switched_off_holds_no_dhcp(router: OpenWrt) -> None:
    install(router)
    configure(router, CONFIG.format(priority=150) + "\toption dhcp '1'\n")
    router.sh("/etc/init.d/tandem-dhcp boot")
    assert "table inet tandem_dhcp" in router.sh("nft list tables")
    router.sh("sed -i s/\"enabled '1'\"/\"enabled '0'\"/ /etc/config/tandem")
    router.sh("/etc/init.d/tandem start")
    assert "tandem" not in router.sh("nft list tables")


@needs_planner
@pytest.mark.slow
def test_the_first_steps_after_an_installation(router: OpenWrt) -> None:
    """`tandem init --start` says that tandem runs when it does; the first reload_config is not ignored."""
    assert "Run: tandem init" in router.sh("opkg install tandem")
    router.add_lan()
    assert "not set up" in router.sh("tandem doctor --listen 1", status=1)

    # A configuration by hand, and the commands of README.
    configure(router)
    router.sh("uci set tandem.I1.priority=140; uci commit tandem; reload_config")
    becomes_active(router)
    assert "140" in router.sh("tandem status -v")
    router.sh("/etc/init.d/tandem disable")
    assert "the service is disabled" in router.sh("tandem doctor --listen 1", status=1)
    assert "will not start at boot" in router.sh("/etc/init.d/tandem start")
    router.sh("/etc/init.d/tandem stop")

    # By init: netifd does not run here, so the network has the name of its device.
    network = "config interface 'lan0'\n\toption device 'lan0'\n\toption proto 'static'\n"
    router.write("/etc/config/network", network + "\toption ipaddr '192.168.1.2/24'\n")
    init = "tandem init --force --network lan0=192.168.1.4 --no-sync --start"
    assert "tandem runs here" in router.sh(init)
    becomes_active(router)
    # A daemon that cannot run is not reported as running.
    router.sh("mv /usr/lib/python3.10/site-packages/pyroute2 /tmp/")
    said = router.sh(init, status=1)
    assert "tandemd does not run" in said and "has no module pyroute2" in said and "runs here" not in said


@needs_planner
@pytest.mark.slow
def test_service(router: OpenWrt) -> None:
    install(router)
    leave_bytecode_only(router)
    configure(router)
    router.sh("mkdir -p /etc/hotplug.d/tandem")
    router.write("/etc/hotplug.d/tandem/10-log", 'logger -t hotplug "$HOTPLUG_TYPE $ACTION $TYPE $NAME"\n')
    router.sh("/etc/init.d/tandem start")
    becomes_active(router)
    assert "hotplug: tandem NOTIFY_MASTER INSTANCE I1\n" in router.log
    assert "real-time" not in router.log and "FIFO 50" in router.sh("tandem status --json")
    assert router.sh("service tandem status").strip() == "running"
    assert json.loads(router.sh("service tandem info"))["tandem"]["instances"]
    assert "I1: MASTER" in router.log
    running = pid(router)

    # A bad configuration: reasons on the console and in the log, and the running one goes on.
    configure(router, CONFIG.format(priority=999))
    assert "999" in router.sh("/etc/init.d/tandem reload", status=1)
    assert re.search(r"daemon.err tandemd: .*999", router.log)
    assert "999" in router.sh("/etc/init.d/tandem start")
    assert pid(router) == running and active(router)
    configure(router, CONFIG.format(priority=120))
    router.sh("/etc/init.d/tandem reload")
    assert "120" in router.sh("tandem status -v") and pid(router) == running

    # procd calls reload by itself when a configuration it watches has changed.
    configure(router, CONFIG.format(priority=130))
    router.sh("""ubus call service event '{"type":"config.change","data":{"package":"tandem"}}'""")
    wait_until(lambda: "130" in router.sh("tandem status -v"), 15, "reloaded by a trigger", every=0.5)

    # The daemon comes again after a crash, and ends for good, with all that it had, when it is switched off.
    router.sh(f"kill -9 {running}")
    wait_until(lambda: pid(router) not in (0, running), 30, "procd starts it again", every=0.2)
    becomes_active(router)
    configure(router, CONFIG.format(priority=130).replace("enabled '1'", "enabled '0'"))
    router.sh("/etc/init.d/tandem reload")
    assert pid(router) == 0 and not traces(router)
    configure(router)
    router.sh("""ubus call service event '{"type":"config.change","data":{"package":"tandem"}}'""")
    becomes_active(router)
    router.sh("/etc/init.d/tandem stop")
    assert pid(router) == 0 and not traces(router)


@needs_planner
@pytest.mark.slow
def test_upgrade_keeps_the_configuration_and_removal_leaves_nothing(router: OpenWrt) -> None:
    install(router)
    configure(router, CONFIG.format(priority=150) + STATIC)
    router.sh("/etc/init.d/tandem start")
    becomes_active(router)
    running = pid(router)
    router.sh("sed -i s,/srv/tandem,/srv/next, /etc/opkg/customfeeds.conf && opkg update")
    router.sh("opkg upgrade tandem")
    assert "0.1.0-r2" in router.sh("opkg list-installed tandem")
    assert "priority '150'" in router.sh("cat /etc/config/tandem")
    assert router.sh("ls -l /etc/config/tandem").startswith("-rw------- ")
    becomes_active(router)
    assert pid(router) not in (0, running)
    log = router.log
    assert log.count("stopping: handing over") == 1 and "Traceback" not in log
    router.sh("/etc/init.d/tandem enabled")
    assert router.sh("find /usr/lib/tandem -name '*.pyc' | head -n 1")

    # Even if the daemon was killed and nobody has come after it: procd waits five seconds.
    assert router.sh(ARP_IGNORE).strip() == "1"
    router.sh(f"kill -9 {pid(router)}; opkg remove tandem")
    assert pid(router) == 0 and not traces(router)
    assert "192.168.7.0" not in router.sh("ip route") and router.sh(ARP_IGNORE).strip() == "0"
    router.sh("test ! -e /usr/lib/tandem && test ! -e /var/run/tandem && test ! -e /etc/init.d/tandem")
    assert "tandem" not in router.sh("ls /etc/rc.d")
