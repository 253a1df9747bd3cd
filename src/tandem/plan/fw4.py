# SPDX-License-Identifier: GPL-2.0-or-later
"""What OpenWrt's firewall must let in: adverts, and the replication channel.

fw4 builds its table `inet fw4` anew at every reload, from /etc/config/firewall and from the files in
/usr/share/nftables.d. Two of these are Tandem's: they jump from fw4's input chain, before its zones
decide, to the chain `tandem_input`, and fill that from a file below /var/run, which is made here.
So the rules survive a reload of either side, whichever comes first, and nothing is written to flash.

A rule names the interface of the instance, and so lets nothing in from other zones:

    iifname "br-lan" ip daddr 224.0.0.18 ip ttl 255 meta l4proto 112 accept
    ip saddr 192.168.1.3 tcp dport 3780 fib saddr . iif oif exists accept

A multicast advert has TTL 255, which no packet from beyond a router can have (RFC 9568 section 5.1.1.3).
The fib expression (kmod-nft-fib, which fw4 needs anyway) takes a peer's packets from that interface
only by which the peer is reached.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator

from tandem.config.schema import Config, Instance, SyncPath
from tandem.core.packet import PROTOCOL

CHAIN = "tandem_input"
FILE = "fw4.nft"
_NFT = "/usr/sbin/nft"
_NFT_TIMEOUT_S = 10
_PLAIN = re.compile(r"[A-Za-z0-9._@+-]+")  # nft takes * for a pattern, and has no way to write "


def rules(config: Config) -> tuple[str, ...]:
    """One rule a line, in nft's syntax; a device whose name nft can't carry has none."""
    if not config.globals.enabled:
        return ()
    found = [rule for instance in config.instances for rule in _adverts(instance)]
    if config.conntrack_sync:
        found += [_replication(path) for peer in config.conntrack_sync.peers for path in peer.paths]
    return tuple(dict.fromkeys(rule for rule in found if rule))


def _adverts(instance: Instance) -> Iterator[str]:
    if not _PLAIN.fullmatch(instance.interface):
        return
    ip = "ip" if instance.family == 4 else "ip6"
    where = f'iifname "{instance.interface}"'
    if instance.unicast_peers:
        for peer in instance.unicast_peers:
            yield f"{where} {ip} saddr {peer} meta l4proto {PROTOCOL} accept"
    elif instance.family == 4:
        yield f"{where} ip daddr {instance.multicast_group} ip ttl 255 meta l4proto {PROTOCOL} accept"
    else:
        yield f"{where} ip6 daddr ff02::12 ip6 hoplimit 255 meta l4proto {PROTOCOL} accept"


def _replication(path: SyncPath) -> str:
    address, _, zone = path.address.partition("%")
    interface = path.interface or zone
    if interface and not _PLAIN.fullmatch(interface):
        return ""
    ip = "ip6" if ":" in address else "ip"
    who = f"{ip} saddr {address} tcp dport {path.port}"
    return f'iifname "{interface}" {who} accept' if interface else f"{who} fib saddr . iif oif exists accept"


def install(config: Config, directory: str) -> str | None:
    """Write the rules for fw4's next reload, and put them into its table if it is loaded now.

    Returns what went wrong, as a sentence; a router without fw4 is none of that.
    """
    lines = rules(config)
    try:
        _write(os.path.join(directory, FILE), "".join(f"{line}\n" for line in lines))
    except OSError as error:
        return f"rules for fw4: {error.filename or directory}: {error.strerror}"
    script = [f"flush chain inet fw4 {CHAIN}", *(f"add rule inet fw4 {CHAIN} {line}" for line in lines)]
    try:
        done = subprocess.run(
            [_NFT, "-f", "-"], input="\n".join([*script, ""]), capture_output=True, text=True,
            timeout=_NFT_TIMEOUT_S,
        )  # fmt: skip
    except (FileNotFoundError, PermissionError):
        return None  # then there is no fw4 either, or it is not ours to change
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"rules for fw4: {_NFT}: {error}"
    if done.returncode == 0 or "No such file or directory" in done.stderr:
        return None  # the latter: the table or the chain is not there
    return f"rules for fw4: {done.stderr.strip().partition(chr(10))[0]}"


def _write(path: str, text: str) -> None:
    """Replace the file as a whole: fw4 may read it at any moment."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    # Not a name that the include's pattern takes.
    descriptor, name = tempfile.mkstemp(prefix=".fw4-", dir=os.path.dirname(path))
    with open(descriptor, "w") as file:
        file.write(text)
    os.replace(name, path)
