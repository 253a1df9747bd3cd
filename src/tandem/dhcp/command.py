# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem dhcp hold` and `tandem dhcp release`: DHCP before the daemon starts, and after Tandem is removed.

The init script tandem-dhcp calls both: `hold` at boot, before dnsmasq starts, and `release` when the
package is removed.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import subprocess
from collections.abc import Iterable, Iterator

from tandem import files
from tandem.config import uci
from tandem.config.load import load_file
from tandem.config.schema import Config, DhcpGateway
from tandem.config.values import TRUE
from tandem.effects.netlink import NETLINK_NETFILTER, Commands
from tandem.effects.nftables import numbered
from tandem.plan import dnsmasq
from tandem.programs import PATH

UBUS = "/bin/ubus"
DONE, FAILED = 0, 1


def run(arguments: argparse.Namespace) -> int:
    """Hold or release, and return the exit status."""
    config = load_file(arguments.config).config
    return (hold if arguments.what == "hold" else release)(config, arguments.config)


def hold(config: Config | None, path: str) -> int:
    """Silence DHCP where it is configured; a file with errors is read as far as possible."""
    from tandem.plan import encode_guard

    router = dnsmasq.read_router()
    wanted = _guarded(path) if config is None else _instances(config)
    pairs = [(device, family) for name, family in wanted for device in router.devices(name)]
    if not pairs:
        return DONE
    errors = _transact(encode_guard.boot_hold(dict.fromkeys(pairs)))
    return DONE if errors <= {errno.EEXIST} else FAILED


def release(config: Config | None, path: str) -> int:
    """Undo the changes that the daemon has left for its next start."""
    from tandem.plan import encode_guard

    settings = (config and config.dhcp_gateway) or DhcpGateway()
    errors = _transact(encode_guard.guard((), lambda name: (name,))["clear"])
    router = dnsmasq.read_router()
    _forget_resolvers(config, settings, router)
    changed = False
    for directory in dict.fromkeys((settings.confdir or "", *router.confdirs, dnsmasq.CONFDIR)):
        snippet = os.path.join(directory, dnsmasq.SNIPPET)
        if directory and os.path.exists(snippet):
            os.unlink(snippet)
            changed = True
    changed |= _unforce(f"{dnsmasq.STATE}/dhcp")
    if changed:
        done = subprocess.run(settings.restart, stdin=subprocess.DEVNULL, check=False, env={"PATH": PATH})
        return DONE if done.returncode == 0 and not errors else FAILED
    return FAILED if errors else DONE


def _forget_resolvers(config: Config | None, settings: DhcpGateway, router: dnsmasq.Router) -> None:
    """Let odhcpd tell its own resolvers again, see openwrt/resolvers.py."""
    names: Iterable[str] = router.networks
    if config is not None:
        names = dnsmasq.resolvers((item for item in config.instances if item.dhcp), settings, router)
    for name in names if os.path.exists(UBUS) else ():
        data = json.dumps({"interface": name, "dns": []})
        argv = [UBUS, "-t", "2", "call", "network.interface", "set_data", data]
        subprocess.run(
            argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, env={"PATH": PATH}
        )


def _instances(config: Config) -> Iterator[tuple[str, int]]:
    if config.globals.enabled:
        yield from ((i.interface, i.family) for i in config.instances if i.dhcp)


def _guarded(path: str) -> Iterator[tuple[str, int]]:
    """Return the interfaces to hold when the file has errors: both families of each, to be safe."""
    for section in uci.read(dnsmasq.file_text(path), path).sections:
        words = {name: option.values[-1].text for name, option in section.options.items() if option.values}
        if section.type == "vrrp_instance" and words.get("dhcp", "0").lower() in TRUE:
            yield from ((words.get("interface", ""), family) for family in (4, 6))


def _transact(batch: bytes) -> set[int]:
    """Send a batch to nftables and return the kernel's errors."""
    try:
        commands = Commands(NETLINK_NETFILTER)
    except OSError as error:
        return {error.errno or errno.EIO}
    errors = {number for _, number, _ in commands.transact(numbered(batch))}
    commands.close()
    return errors


def _unforce(path: str) -> bool:
    """Remove `force` from the overlay of UCI; return whether it was there."""
    lines = dnsmasq.file_text(path, follow=False).splitlines()
    rest = [line for line in lines if not (line.startswith("dhcp.") and line.endswith(".force='1'"))]
    if rest == lines:
        return False
    files.replace(path, "".join(f"{line}\n" for line in rest).encode(errors="surrogateescape"))
    return True
