# SPDX-License-Identifier: GPL-2.0-or-later
"""The firewall rules that send the first reply of a TCP connection to the gate's queue.

They stand in PREROUTING at priority mangle: behind connection tracking, so that it is known what is
a reply, and before NAT, so that the packet's tuple is the entry's reply tuple whatever is translated. In
FORWARD the destination is translated back already and the source not yet, so that a hairpin
connection's packets have neither tuple.

`bypass`: what finds no one at the queue passes. nft is tried first; where its queue expression is
missing (OpenWrt: kmod-nft-queue), iptables.
"""

from __future__ import annotations

import subprocess

CHAIN = "TANDEM_GATE"
TABLE = "tandem_gate"
TIMEOUT = 10.0  # s

_NFT = """
table inet {table} {{
    chain prerouting {{
        type filter hook prerouting priority mangle; policy accept;
        iifname != "lo" tcp flags & (fin|syn|rst|ack) == syn|ack tcp sport != {port} ct direction reply \
queue num {queue} bypass
    }}
}}
"""
_IPTABLES = ("iptables-legacy", "iptables")


class RulesError(Exception):
    """The rules can't be installed: why."""


class Rules:
    """Installs and removes the rules; what an earlier process left is removed by `clear`."""

    def __init__(self, queue: int, channel_port: int) -> None:
        """`channel_port`: TCP port of the replication itself, which must not wait for itself."""
        self.backend = ""
        self._queue = queue
        self._port = channel_port

    def install(self) -> list[str]:
        """Install the rules; what could not be done, when something could. RulesError: nothing could."""
        text = _NFT.format(table=TABLE, queue=self._queue, port=self._port)
        problems = [_run(["nft", "-f", "-"], text)]
        if not problems[0]:
            self.backend = "nft"
            return []
        for program in _IPTABLES:
            failed = [self._install_iptables(name) for name in _both_families(program)]
            if not all(failed):
                self.backend = program
                return [problem for problem in failed if problem]
            problems += failed
        self.clear()
        raise RulesError("; ".join(dict.fromkeys(problem for problem in problems if problem)))

    def remove(self) -> None:
        """Remove what `install` has installed."""
        if self.backend == "nft":
            _clear_nft()
        elif self.backend:
            _clear_iptables(self.backend)
        self.backend = ""

    def clear(self) -> None:
        """Remove whatever any gate has installed; what is not there is no error."""
        _clear_nft()
        for program in _IPTABLES:
            _clear_iptables(program)
        self.backend = ""

    def _install_iptables(self, program: str) -> str:
        match = ["!", "-i", "lo", "-p", "tcp", "--tcp-flags", "FIN,SYN,RST,ACK", "SYN,ACK"]
        match += ["!", "--sport", str(self._port), "-m", "conntrack", "--ctdir", "REPLY"]
        target = ["-j", "NFQUEUE", "--queue-num", str(self._queue), "--queue-bypass"]
        return (
            _mangle(program, "-N", CHAIN)
            or _mangle(program, "-A", CHAIN, *match, *target)
            or _mangle(program, "-I", "PREROUTING", "-j", CHAIN)
        )


def _clear_nft() -> None:
    _run(["nft", "delete", "table", "inet", TABLE])


def _clear_iptables(program: str) -> None:
    for name in _both_families(program):
        while not _mangle(name, "-D", "PREROUTING", "-j", CHAIN):
            pass
        if not _mangle(name, "-F", CHAIN):
            _mangle(name, "-X", CHAIN)


def _both_families(program: str) -> tuple[str, str]:
    return program, program.replace("ip", "ip6", 1)


def _mangle(program: str, *arguments: str) -> str:
    return _run([program, "-w", "-t", "mangle", *arguments])


def _run(argv: list[str], text: str = "") -> str:
    """Why a command failed; "" when it did not."""
    try:
        done = subprocess.run(argv, input=text.encode(), capture_output=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]}: {error}"
    if not done.returncode:
        return ""
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return f"{argv[0]}: {said[0] if said else f'exit status {done.returncode}'}"
