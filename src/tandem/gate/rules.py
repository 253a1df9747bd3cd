# SPDX-License-Identifier: GPL-2.0-or-later
"""The firewall rules that send the first reply of a connection to the gate's queue.

The rules stand in PREROUTING at priority mangle. This is behind connection tracking, so that replies are
known, and before NAT, so that the packet's tuple is the entry's reply tuple. In FORWARD the destination is
translated back already and the source is not yet, so that a packet of a hairpin connection has neither tuple.

The flags tell TCP's first reply. For UDP and ICMP echo connection tracking counts packets (nf_conntrack_acct,
which OpenWrt sets): the rules match the first FIRST packets of the reply direction, because a server that
answers in several packets sends them while the first one is held.

A host that opens connections without end must not take the queue from all others. Packets above SOURCE_RATE
of one source are accepted at once, and counted. The source is the client, also when NAT translates it.
iptables has no such match; with iptables only the gate's own limits hold.

With `bypass`, the kernel accepts a packet when no process reads the queue. nft is tried first, and iptables
where nft's queue expression is missing (OpenWrt: kmod-nft-queue).
"""

from __future__ import annotations

import subprocess

from tandem.programs import PATH, find_program

CHAIN = "TANDEM_GATE"
TABLE = "tandem_gate"
TIMEOUT = 10.0  # s
_CLEAN = {"PATH": PATH}

FIRST = 4  # packets
SOURCE_RATE, SOURCE_BURST = 1000, 500  # packets a second, and at once
SOURCES = 4096  # distinct sources; further ones are not limited
COUNTER = "limited"
_NFT = """
table inet {table} {{
    counter {counter} {{ }}
    set sources4 {{ type ipv4_addr; size {sources}; flags dynamic; timeout 5s; }}
    set sources6 {{ type ipv6_addr; size {sources}; flags dynamic; timeout 5s; }}
    chain prerouting {{
        type filter hook prerouting priority mangle; policy accept;
        iifname "lo" accept
        ct direction original accept
        tcp flags & (fin|syn|rst|ack) == syn|ack tcp sport != {port} goto hold
        meta l4proto udp ct reply packets 1-{first} goto hold
        icmp type echo-reply ct reply packets 1-{first} goto hold
        icmpv6 type echo-reply ct reply packets 1-{first} goto hold
    }}
    chain hold {{
        update @sources4 {{ ct original ip saddr limit rate over {rate} }} counter name {counter} accept
        update @sources6 {{ ct original ip6 saddr limit rate over {rate} }} counter name {counter} accept
        {verdict}
    }}
}}
"""
_IPTABLES = ("iptables-legacy", "iptables")


def nft_rules(queue: int, channel_port: int, verdict: str = "") -> str:
    """The table for `nft -f`; `verdict` instead of the queue is for tests."""
    verdict = verdict or f"queue num {queue} bypass"
    rate = f"{SOURCE_RATE}/second burst {SOURCE_BURST} packets"
    numbers = {"first": FIRST, "sources": SOURCES, "rate": rate}
    return _NFT.format(table=TABLE, counter=COUNTER, port=channel_port, verdict=verdict, **numbers)


def iptables_rules(queue: int, channel_port: int, v6: bool) -> list[list[str]]:
    """Return the arguments behind `iptables -t mangle -A TANDEM_GATE`, rule by rule."""
    reply = ["-m", "conntrack", "--ctdir", "REPLY"]
    first = ["-m", "connbytes", "--connbytes", f"1:{FIRST}"]
    first += ["--connbytes-dir", "reply", "--connbytes-mode", "packets"]
    echo = ["icmpv6", "--icmpv6-type"] if v6 else ["icmp", "--icmp-type"]
    target = ["-j", "NFQUEUE", "--queue-num", str(queue), "--queue-bypass"]
    flags = ["--tcp-flags", "FIN,SYN,RST,ACK", "SYN,ACK", "!", "--sport", str(channel_port)]
    return [
        ["!", "-i", "lo", "-p", *match, *reply, *target]
        for match in (["tcp", *flags], ["udp", *first], [*echo, "echo-reply", *first])
    ]


class RulesError(Exception):
    """The rules can't be installed: why."""


class Rules:
    """Installs and removes the rules; what an earlier process left is removed by `clear`."""

    def __init__(self, queue: int, channel_port: int) -> None:
        """`channel_port`: TCP port of the replication itself, which must not wait for itself."""
        self.backend = ""
        self._limited = self._limited_before = 0  # by the table that stands, and by those before it
        self._stood: object = None  # what stood there when they were installed
        self._queue = queue
        self._port = channel_port

    def install(self) -> list[str]:
        """Install the rules; what could not be done, when something could. RulesError: nothing could."""
        problems = self._install()
        self._stood = self._standing()
        return problems

    def restore(self) -> list[str]:
        """Install the rules again if another program has changed them; return messages for the log."""
        if self._standing() == self._stood:
            return []
        self.clear()
        try:
            return ["another program had removed the rules: they are put back", *self.install()]
        except RulesError as error:
            return [f"another program has removed the rules, and they cannot be put back ({error})"]

    def _standing(self) -> object:
        """Return the rules as they are in the kernel now."""
        if self.backend != "nft":
            listed = (["-C", "PREROUTING", "-j", CHAIN], ["-S", CHAIN])
            return [_output(name, *some) for name in _both_families(self.backend) for some in listed]
        from tandem.effects.nftables import shape_found

        try:
            return shape_found(TABLE)
        except OSError:
            return self._stood  # not told: as it was

    def _install(self) -> list[str]:
        problems = [_run(["nft", "-f", "-"], nft_rules(self._queue, self._port))]
        if not problems[0]:
            self.backend = "nft"
            return []
        for program in _IPTABLES:
            failed = [self._install_iptables(name) for name in _both_families(program)]
            if any(some for some, _ in failed):
                self.backend = program
                return [problem for _, problem in failed if problem]
            problems += [problem for _, problem in failed]
        self.clear()
        raise RulesError("; ".join(dict.fromkeys(problem for problem in problems if problem)))

    def remove(self) -> None:
        """Remove what `install` has installed."""
        self._limited_before, self._limited = self.limited(), 0
        if self.backend == "nft":
            _clear_nft()
        elif self.backend:
            _clear_iptables(self.backend)
        self.backend = ""

    def limited(self) -> int:
        """Return how many packets were accepted because of the rate limit."""
        if self.backend == "nft":
            from tandem.effects.nftables import packets_counted

            try:
                counted = packets_counted(TABLE, COUNTER)
            except OSError:
                counted = self._limited  # not told: as it was
            if counted < self._limited:  # the table was made anew
                self._limited_before += self._limited
            self._limited = counted
        return self._limited_before + self._limited

    def clear(self) -> None:
        """Remove whatever any gate has installed; what is not there is no error."""
        _clear_nft()
        for program in _IPTABLES:
            _clear_iptables(program)
        self.backend = ""

    def _install_iptables(self, program: str) -> tuple[bool, str]:
        """Whether some of the rules stand, and why one of them does not."""
        if problem := _mangle(program, "-N", CHAIN):
            return False, problem
        rules = iptables_rules(self._queue, self._port, v6="ip6" in program)
        problems = [_mangle(program, "-A", CHAIN, *rule) for rule in rules]
        problem = next(filter(None, problems), "")
        if all(problems):
            return False, problem
        hook = _mangle(program, "-I", "PREROUTING", "-j", CHAIN)
        return not hook, hook or problem


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


def _output(program: str, *arguments: str) -> str:
    """Return what `iptables -t mangle` prints; "" when it does not run, "absent" when it fails."""
    try:
        argv = [find_program(program), "-w", "-t", "mangle", *arguments]
        done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT, env=_CLEAN)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if not done.returncode else "absent"


def _run(argv: list[str], text: str = "") -> str:
    """Why a command failed; "" when it did not."""
    try:
        whole = [find_program(argv[0]), *argv[1:]]
        done = subprocess.run(whole, input=text.encode(), capture_output=True, timeout=TIMEOUT, env=_CLEAN)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]}: {error}"
    if not done.returncode:
        return ""
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return f"{argv[0]}: {said[0] if said else f'exit status {done.returncode}'}"
