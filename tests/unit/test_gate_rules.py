# SPDX-License-Identifier: GPL-2.0-or-later
"""How the gate's rules are installed, put back and removed, with programs that a test plays."""

from __future__ import annotations

import pytest

from tandem.effects import nftables
from tandem.gate import rules
from tandem.gate.rules import CHAIN, COUNTER, TABLE, Rules, RulesError, iptables_rules, nft_rules

LEGACY = ("iptables-legacy", "ip6tables-legacy")


class Kernel:
    """nft and iptables: what each was told, and what stands. `broken` programs fail and say their name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken: set[str] = set()
        self.refused = ""  # a word of rules that iptables refuses
        self.nft = ""  # the table
        self.chains: dict[str, list[list[str]]] = {}  # by program
        self.hooks: dict[str, int] = {}  # jumps to the chain
        self.counted: int | None = 0  # None: the kernel does not tell
        monkeypatch.setattr(rules, "_run", self.run)
        monkeypatch.setattr(rules, "_output", self.output)
        monkeypatch.setattr(nftables, "shape_found", lambda table: self.tell(self.nft, table == TABLE))
        monkeypatch.setattr(
            nftables, "packets_counted", lambda *names: self.tell(self.counted, names == (TABLE, COUNTER))
        )

    def tell(self, what: object, asked: bool) -> object:
        assert asked
        if self.counted is None:
            raise OSError
        return what

    def run(self, argv: list[str], text: str = "") -> str:
        name = argv[0]
        if name in self.broken:
            return f"{name}: broken"
        if name == "nft":
            if argv[1] == "delete":
                assert argv[2:] == ["table", "inet", TABLE]
                self.nft, failed = "", not self.nft
                return "nft: no such table" if failed else ""
            self.nft = text
            return ""
        assert argv[1:4] == ["-w", "-t", "mangle"]
        return self.mangle(name, *argv[4:])

    def mangle(self, name: str, what: str, chain: str, *rest: str) -> str:
        if chain == "PREROUTING":
            assert rest == ("-j", CHAIN)
            if what == "-D" and not self.hooks.get(name):
                return f"{name}: no such rule"
            self.hooks[name] = self.hooks.get(name, 0) + (1 if what == "-I" else -1)
            return ""
        assert chain == CHAIN
        if (what == "-N") is (name in self.chains):
            return f"{name}: the chain is there, or it is not"
        if what in ("-N", "-F"):
            self.chains[name] = []
        elif what == "-X":
            assert not self.hooks.get(name) and not self.chains.pop(name)
        else:
            assert what == "-A"
            if self.refused and self.refused in rest:
                return f"{name}: refused"
            self.chains[name].append(list(rest))
        return ""

    def output(self, name: str, *arguments: str) -> str:
        if arguments[0] == "-C":
            return "" if self.hooks.get(name) else "absent"
        return str(self.chains.get(name, "absent"))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_nft_is_enough(kernel: Kernel) -> None:
    made = Rules(7, 3780)
    assert made.install() == [] and made.backend == "nft"
    assert kernel.nft == nft_rules(7, 3780) and not kernel.chains
    made.remove()
    assert not kernel.nft and not made.backend


@pytest.mark.parametrize(
    ("broken", "names"),
    [({"nft"}, LEGACY), ({"nft", "iptables-legacy", "ip6tables-legacy"}, ("iptables", "ip6tables"))],
)
def test_iptables_where_nft_has_no_queue(kernel: Kernel, broken: set[str], names: tuple[str, str]) -> None:
    kernel.broken = broken
    made = Rules(7, 3780)
    assert made.install() == [] and made.backend == names[0]
    assert kernel.chains == {name: iptables_rules(7, 3780, v6="ip6" in name) for name in names}
    assert kernel.hooks == dict.fromkeys(names, 1)
    made.remove()
    assert not kernel.chains and not any(kernel.hooks.values()) and not made.backend


def test_with_one_family_the_other_ones_problem_is_told(kernel: Kernel) -> None:
    kernel.broken = {"nft", "ip6tables-legacy"}
    made = Rules(7, 3780)
    assert made.install() == ["ip6tables-legacy: broken"]
    assert made.backend == "iptables-legacy" and list(kernel.chains) == ["iptables-legacy"]


def test_with_some_rules_the_first_refusal_is_told(kernel: Kernel) -> None:
    kernel.broken, kernel.refused = {"nft"}, "connbytes"
    assert Rules(7, 3780).install() == [f"{name}: refused" for name in LEGACY]
    assert [len(chain) for chain in kernel.chains.values()] == [1, 1] and kernel.hooks[LEGACY[0]] == 1


def test_without_any_rule_it_says_why_and_leaves_nothing(kernel: Kernel) -> None:
    kernel.broken, kernel.refused = {"nft", "iptables", "ip6tables"}, "-p"
    with pytest.raises(RulesError) as failed:
        Rules(7, 3780).install()
    legacy = "iptables-legacy: refused; ip6tables-legacy: refused"
    assert str(failed.value) == f"nft: broken; {legacy}; iptables: broken; ip6tables: broken"
    assert not kernel.chains and not any(kernel.hooks.values())


def test_leftovers_of_every_kind_are_removed(kernel: Kernel) -> None:
    kernel.nft = "old"
    for name in (*LEGACY, "iptables", "ip6tables"):
        kernel.chains[name], kernel.hooks[name] = [["old"]], 2
    Rules(7, 3780).clear()
    assert not kernel.nft and not kernel.chains and not any(kernel.hooks.values())


@pytest.mark.parametrize("backend", ["nft", "iptables-legacy"])
def test_rules_that_somebody_has_changed_are_put_back(kernel: Kernel, backend: str) -> None:
    kernel.broken = set() if backend == "nft" else {"nft"}
    made = Rules(7, 3780)
    made.install()
    assert made.restore() == [], "they stand"
    kernel.nft = ""
    kernel.hooks.pop("ip6tables-legacy", None)
    assert made.restore() == ["another program had removed the rules: they are put back"]
    assert kernel.nft == nft_rules(7, 3780) if backend == "nft" else kernel.hooks["ip6tables-legacy"] == 1
    assert made.restore() == []
    kernel.nft, kernel.broken = "", {"nft", *LEGACY, "iptables", "ip6tables"}
    kernel.hooks.pop("ip6tables-legacy", None)
    [told] = made.restore()
    assert told.startswith(
        "another program has removed the rules, and they cannot be put back (nft: broken; "
    )


def test_what_the_kernel_does_not_tell_is_as_it_was(kernel: Kernel) -> None:
    made = Rules(7, 3780)
    made.install()
    kernel.counted = 5
    assert made.limited() == 5
    kernel.counted = None
    assert made.restore() == [] and made.limited() == 5


def test_packets_above_the_limit_are_counted_over_all_tables(kernel: Kernel) -> None:
    made = Rules(7, 3780)
    assert made.limited() == 0
    made.install()
    for counted, total in ((5, 5), (7, 7), (2, 9), (4, 11)):  # another program made the table anew
        kernel.counted = counted
        assert made.limited() == total
    made.remove()
    assert made.limited() == 11
    made.install()
    kernel.counted = 1
    assert made.limited() == 12


def test_why_a_program_failed_is_its_first_line() -> None:
    assert rules._run(["grep", "-q", "accept"], "accept") == ""
    assert rules._run(["false"]) == "false: exit status 1"
    assert rules._run(["sh", "-c", "echo first >&2; echo second >&2; exit 1"]) == "sh: first"
    assert rules._run(["sh", "-c", "echo refused; exit 1"]) == "sh: refused"
    assert rules._run(["no-such-program"]).startswith("no-such-program: ")


def test_what_iptables_prints_is_taken_unless_it_fails() -> None:
    assert rules._output("echo", "-S", CHAIN) == f"-w -t mangle -S {CHAIN}\n"
    assert rules._output("false") == "absent" and rules._output("no-such-program") == ""
