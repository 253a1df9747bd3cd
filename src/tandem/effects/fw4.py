# SPDX-License-Identifier: GPL-2.0-or-later
"""What OpenWrt's firewall must let in: adverts, and the replication channel.

fw4 builds its table `inet fw4` anew at every reload, from /etc/config/firewall and from the files in
/usr/share/nftables.d. Two of these are Tandem's: they jump from fw4's input chain, before its zones
decide, to the chain `tandem_input`, and fill that from a file below /var/run, which is made here.
So the rules survive a reload of either side, whichever comes first, and nothing is written to flash.

A rule names the device of the instance, and so lets nothing in from other zones:

    iifname "br-lan" ip daddr 224.0.0.18 ip ttl 255 meta l4proto 112 accept
    ip saddr 192.168.1.3 tcp dport 3780 fib saddr . iif oif exists accept

A multicast advert has TTL 255, which no packet from beyond a router can have (RFC 9568 section 5.1.1.3).
The fib expression (kmod-nft-fib, which fw4 needs anyway) takes a peer's packets from that interface
only by which the peer is reached.
"""

from __future__ import annotations

import os

from tandem.core.packet import HOP_LIMIT, PROTOCOL
from tandem.effects import files
from tandem.effects.process import Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tandem.config.schema import Config, Instance, SyncPath
    from tandem.effects.process import Exit
    from tandem.log import Logger
    from tandem.loop import Loop

    DeviceOf = Callable[[str], str | None]

CHAIN = "tandem_input"
FILE = "fw4.nft"
NFT = "/usr/sbin/nft"

_SCRIPT = ".fw4-now"  # a name that the pattern in the package's file does not take
_TIMEOUT = 10_000_000_000  # ns


def rules(config: Config, device_of: DeviceOf = lambda name: name) -> tuple[str, ...]:
    """One rule a line, in nft's syntax. `device_of` says what an interface of the configuration stands for.

    A device that is not known (yet), or has a name that nft can't carry, has no rule.
    """
    if not config.globals.enabled:
        return ()
    found = [rule for instance in config.instances for rule in _adverts(instance, device_of)]
    if config.conntrack_sync:
        paths = (path for peer in config.conntrack_sync.peers for path in peer.paths)
        found += [rule for path in paths for rule in _replication(path, device_of)]
    return tuple(dict.fromkeys(found))


def _adverts(instance: Instance, device_of: DeviceOf) -> Iterator[str]:
    where = _from(instance.interface, device_of)
    if where is None:
        return
    ip = "ip" if instance.family == 4 else "ip6"
    if instance.unicast_peers:
        for peer in instance.unicast_peers:
            yield f"{where} {ip} saddr {peer} meta l4proto {PROTOCOL} accept"
    else:
        to = f"{ip} daddr {instance.multicast_group}"
        hops = "ttl" if instance.family == 4 else "hoplimit"
        yield f"{where} {to} {ip} {hops} {HOP_LIMIT} meta l4proto {PROTOCOL} accept"


def _replication(path: SyncPath, device_of: DeviceOf) -> Iterator[str]:
    address, _, zone = path.address.partition("%")
    interface = path.interface or zone
    who = f"{'ip6' if ':' in address else 'ip'} saddr {address} tcp dport {path.port}"
    if not interface:
        yield f"{who} fib saddr . iif oif exists accept"
    elif (where := _from(interface, device_of)) is not None:
        yield f"{where} {who} accept"


def _from(interface: str, device_of: DeviceOf) -> str | None:
    """The match of the device; nft takes * for a pattern, and has no way to write a quotation mark."""
    device = device_of(interface)
    if not device or any(char in '*"\\' or not char.isprintable() for char in device):
        return None
    return f'iifname "{device}"'


class Fw4:
    """Keeps file and table up to date. `directory` is where the file goes, on a RAM disk."""

    def __init__(self, loop: Loop, log: Logger, directory: str) -> None:
        self._log = log
        self._directory = directory
        self._processes = Processes(loop, log, limit=1)
        self._present: tuple[str, ...] | None = None
        self._again = False

    def let_in(self, config: Config, device_of: DeviceOf) -> None:
        """Write the rules for fw4's next reload, and put them into its table if it is loaded now.

        Returns at once: nft runs beside the loop.
        """
        wanted = rules(config, device_of)
        if wanted == self._present:
            return
        script = [f"flush chain inet fw4 {CHAIN}", *(f"add rule inet fw4 {CHAIN} {rule}" for rule in wanted)]
        try:
            self._write(FILE, wanted)
            self._write(_SCRIPT, script)
        except OSError as error:
            self._log.warning(f"no rules for fw4: {error.filename or self._directory}: {error.strerror}")
            return
        self._present = wanted
        if os.access(NFT, os.X_OK):  # without it there is no fw4
            self._apply()

    def close(self) -> None:
        """Let nobody in any more after fw4's next reload."""
        self._processes.close()
        for name in (FILE, _SCRIPT):
            try:
                os.unlink(os.path.join(self._directory, name))
            except OSError:
                pass  # it was never made

    def _apply(self) -> None:
        if len(self._processes):
            self._again = True
            return
        self._processes.start((NFT, "-f", os.path.join(self._directory, _SCRIPT)), _TIMEOUT, self._applied)

    def _applied(self, ended: Exit) -> None:
        if not ended.ok:  # mostly because there is no such table
            self._log.debug(f"fw4 did not take the rules now: nft: {ended}")
        if self._again:
            self._again = False
            self._apply()

    def _write(self, name: str, lines: tuple[str, ...] | list[str]) -> None:
        """Replace a file as a whole: fw4 may read it at any moment."""
        text = "".join(f"{line}\n" for line in lines)
        files.replace(os.path.join(self._directory, name), text.encode(), 0o600)
