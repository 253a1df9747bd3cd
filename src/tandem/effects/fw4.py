# SPDX-License-Identifier: GPL-2.0-or-later
"""The packets that OpenWrt's firewall must let in: adverts, the channel, and heartbeats.

fw4 builds its table `inet fw4` anew at every reload, from /etc/config/firewall and from the files in
/usr/share/nftables.d. Two of these are Tandem's: they jump from fw4's input chain, before its zones
decide, to the chain `tandem_input`, and fill that from a file below /var/run, which is made here.
The rules therefore survive a reload of either side, and nothing is written to flash.

A rule names the device of the instance, and so lets nothing in from other zones:

    iifname "br-lan" ip daddr 224.0.0.18 ip ttl 255 meta l4proto 112 accept
    ip saddr 192.168.1.3 fib saddr . iif oif exists tcp dport 3780 accept
    ip saddr 192.168.1.3 fib ... tcp sport 3780 ct state untracked tcp flags & (syn | ack) != syn accept
    iifname "br-lan" ip ttl 255 udp sport 3780 udp dport 3780 accept

A multicast advert has TTL 255, which no packet from beyond a router can have (RFC 9568 section 5.1.1.3).
The fib expression (kmod-nft-fib, which fw4 requires anyway) accepts a peer's packets only from the interface
by which the peer is reached.

The virtual devices of `use_vmac` get into the zones of their interfaces by a process, `fw4_zones.py`, which
runs whenever fw4's table has other rules than the process has seen.
"""

from __future__ import annotations

import os
import sys

from tandem import files
from tandem.core.packet import HOP_LIMIT, PROTOCOL
from tandem.effects.nftables import Shape, shape_found
from tandem.effects.process import Processes
from tandem.programs import PACKAGE_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tandem.config.schema import Config, PeerPath
    from tandem.core.settings import Instance
    from tandem.effects.process import Exit
    from tandem.log import Logger
    from tandem.loop import Loop

    DeviceOf = Callable[[str], str | None]

TABLE = "fw4"
CHAIN = "tandem_input"
FILE, WAITING_FILE = "fw4.nft", "zones.nft"
NFT = "/usr/sbin/nft"

_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tandem.effects.fw4_zones import main; \
sys.exit(main(sys.argv[1:]))"
_CHANGED = 10  # its exit status when something was missing
_SCRIPT = ".fw4-now"  # a name that the pattern in the package's file does not take
_TIMEOUT = 10_000_000_000  # ns


def rules(config: Config, device_of: DeviceOf = lambda name: name) -> tuple[str, ...]:
    """One rule a line, in nft's syntax. `device_of` says what an interface of the configuration stands for.

    A device that is not known (yet), or has a name that nft can't carry, has no rule.
    """
    if not config.globals.enabled:
        return ()
    found = [rule for instance in config.instances for rule in _adverts(instance, device_of)]
    paths = [path for peer in config.peers for path in peer.paths]
    found += [rule for path in paths for rule in _channel(path, device_of)]
    if paths and config.globals.heartbeat_interval_ms and not all(peer.insecure for peer in config.peers):
        ports = f"udp sport {paths[0].port} udp dport {paths[0].port}"
        found += [rule for instance in config.instances for rule in _beats(instance, ports, device_of)]
        found += [f"{who} {ports} accept" for path in paths for who in _reached_by(path, device_of)]
    return tuple(dict.fromkeys(found))


def virtual_devices(config: Config, device_of: DeviceOf = lambda name: name) -> dict[str, str]:
    """Return the interface of each virtual device, where it is known."""
    return {
        instance.use_vmac: device
        for instance in (config.instances if config.globals.enabled else ())
        if instance.use_vmac and (device := device_of(instance.interface)) and _written(device)
    }


def _written(device: str) -> bool:
    """Whether nft can write the name: * is a pattern there, and quotation marks cannot be escaped."""
    return not any(char in '*"\\' or not char.isprintable() for char in device)


def _waiting(devices: Iterable[str]) -> list[str]:
    """Return the rules of the chain `tandem_zones`, until `fw4_zones.py` has seen a new table of fw4.

    They drop the first packet of a connection, so that the client tries again; fw4 would refuse it.
    """
    neighbors = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
    verdicts = ("ct state established,related accept", neighbors, "drop")
    return [f'iifname "{device}" {verdict}' for device in devices for verdict in verdicts]


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


def _channel(path: PeerPath, device_of: DeviceOf) -> Iterator[str]:
    # Answers to the connections that this router has made: conntrack does not know them (plan/encode_nft.py).
    replies = f"tcp sport {path.port} ct state untracked tcp flags & (syn | ack) != syn"
    for where in _reached_by(path, device_of):
        yield f"{where} tcp dport {path.port} accept"
        yield f"{where} {replies} accept"


def _beats(instance: Instance, ports: str, device_of: DeviceOf) -> Iterator[str]:
    """Heartbeats between the primary addresses, which the configuration does not name."""
    where = _from(instance.interface, device_of)
    if where is not None and instance.unicast_peers:
        for peer in instance.unicast_peers:
            yield f"{where} {'ip' if instance.family == 4 else 'ip6'} saddr {peer} {ports} accept"
    elif where is not None:
        hops = "ip ttl" if instance.family == 4 else "ip6 hoplimit"
        yield f"{where} {hops} {HOP_LIMIT} {ports} accept"


def _reached_by(path: PeerPath, device_of: DeviceOf) -> Iterator[str]:
    """Yield the match of a peer's packets by a path, when its device is known."""
    address, _, zone = path.address.partition("%")
    interface = path.interface or zone
    who = f"{'ip6' if ':' in address else 'ip'} saddr {address}"
    if not interface:
        yield f"{who} fib saddr . iif oif exists"
    elif (where := _from(interface, device_of)) is not None:
        yield f"{where} {who}"


def _from(interface: str, device_of: DeviceOf) -> str | None:
    """The match of the device."""
    device = device_of(interface)
    return f'iifname "{device}"' if device and _written(device) else None


class Fw4:
    """Keeps file and table up to date. `directory` is where the file goes, on a RAM disk."""

    def __init__(self, loop: Loop, log: Logger, directory: str) -> None:
        self._log = log
        self._directory = directory
        self._processes = Processes(loop, log, limit=2)
        self._present: tuple[str, ...] | None = None
        self._applying = self._again = False
        self._virtual: dict[str, str] = {}  # virtual device: interface
        self._zoned: Shape | None = None  # of fw4's table when all of these were in their zones
        self._zoning = False  # the process that puts them there runs
        self._zone_again = False

    def let_in(self, config: Config, device_of: DeviceOf) -> None:
        """Write the rules for fw4's next reload, and put them into its table if it is loaded now.

        Returns at once: nft runs beside the loop.
        """
        self._put_into_zones(virtual_devices(config, device_of))
        wanted = rules(config, device_of)
        if wanted == self._present:
            return
        script = [f"flush chain inet fw4 {CHAIN}", *(f"add rule inet fw4 {CHAIN} {rule}" for rule in wanted)]
        try:
            self._write(FILE, wanted)
            self._write(_SCRIPT, script)
        except OSError as error:
            self._unwritten("rules", error)
            return
        self._present = wanted
        if os.access(NFT, os.X_OK):  # without it there is no fw4
            self._apply()

    def changed(self) -> None:
        """Look at fw4's table, because another program has changed nftables. OSError."""
        if not self._virtual:
            return
        shape = shape_found(TABLE)
        if shape is not None and shape != self._zoned:
            self._zone(shape)

    def close(self) -> None:
        """Remove the rules: fw4's next reload no longer accepts these packets."""
        self._processes.close()
        for name in (FILE, WAITING_FILE, _SCRIPT):
            try:
                os.unlink(os.path.join(self._directory, name))
            except OSError:
                pass  # it was never made

    def _put_into_zones(self, virtual: dict[str, str]) -> None:
        if virtual == self._virtual:
            return
        try:
            self._write(WAITING_FILE, _waiting(virtual))
        except OSError as error:
            self._unwritten("zones", error)
        self._virtual = virtual
        if os.access(NFT, os.X_OK):
            self._zone(None)

    def _zone(self, shape: Shape | None) -> None:
        """Start the process; `shape` is that of the table. A process that runs may have seen another one."""
        self._zoned = None
        if self._zoning:
            self._zone_again = True
            return
        flags = "-ISB" if sys.dont_write_bytecode else "-IS"
        pairs = (f"{device}={base}" for device, base in self._virtual.items())
        argv = (sys.executable, flags, "-c", _START, PACKAGE_DIR, *pairs)
        started = self._processes.start(argv, _TIMEOUT, lambda ended: self._zone_ended(ended, shape))
        self._zoning = started is not None

    def _zone_ended(self, ended: Exit, shape: Shape | None) -> None:
        self._zoning = False
        if self._zone_again or ended.status == _CHANGED:
            self._zone_again = False
            try:
                self._zone(shape_found(TABLE))
            except OSError as error:
                self._log.warning(f"fw4: the kernel does not show its table: {error.strerror}")
        elif ended.ok:
            self._zoned = shape
        else:
            names = ", ".join(self._virtual)
            text = f"fw4: {names} may be in no zone, which drops all packets: fw4_zones: {ended}"
            self._log.limited("fw4 zones", "warning", text)

    def _apply(self) -> None:
        if self._applying:
            self._again = True
            return
        self._applying = True
        self._processes.start((NFT, "-f", os.path.join(self._directory, _SCRIPT)), _TIMEOUT, self._applied)

    def _applied(self, ended: Exit) -> None:
        self._applying = False
        if not ended.ok:  # mostly because there is no such table
            self._log.debug(f"nft refuses the rules for fw4: {ended}")
        if self._again:
            self._again = False
            self._apply()

    def _unwritten(self, what: str, error: OSError) -> None:
        where = error.filename or self._directory
        self._log.warning(f"cannot write the {what} for fw4: {where}: {error.strerror}")

    def _write(self, name: str, lines: tuple[str, ...] | list[str]) -> None:
        """Replace a file as a whole: fw4 may read it at any moment."""
        text = "".join(f"{line}\n" for line in lines)
        files.replace(os.path.join(self._directory, name), text.encode(), 0o600)
