# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of nftables batches, of which tests/netns/test_plan_rules.py shows what the kernel makes of them.

`python -m tests.unit.test_rule_batches` writes data/rule_batches: run that test as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.nlmsg import NFGENMSG, NLATTR, NLMSGHDR
from tests.rule_cases import BATCHES

FILE = Path(__file__).with_name("data") / "rule_batches"


def lines(batch: bytes) -> Iterator[str]:
    """The batch as text: a line for each message, and one for each element of a list in it."""
    while batch:
        length, kind, flags, sequence, port = NLMSGHDR.unpack_from(batch)
        assert length >= 20 and not length % 4 and (sequence, port) == (0, 0)
        family, version, _ = NFGENMSG.unpack_from(batch, 16)
        yield f"{kind:#x} {flags:#x} {family} {version} {batch[18:20].hex()}"
        for number, value in attributes(batch[20:length]):
            if is_nest(value) and len({kind for kind, _ in attributes(value)}) == 1:
                yield f"  {number}:"
                yield from (f"    {kind}:{shown(inner)}" for kind, inner in attributes(value))
            else:
                yield f"  {number}:{shown(value)}"
        batch = batch[length:]


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind = NLATTR.unpack_from(data)
        yield kind, data[4:length]
        data = data[length + -length % 4 :]


def shown(value: bytes) -> str:
    if is_nest(value):
        return "(" + " ".join(f"{kind}:{shown(inner)}" for kind, inner in attributes(value)) + ")"
    return value[:-1].decode() if is_text(value) else value.hex()


def is_nest(value: bytes) -> bool:
    """Whether it looks like attributes, one after the other."""
    while len(value) >= 4:
        length, kind = NLATTR.unpack_from(value)
        if not 4 < length <= len(value) or not 0 < kind < 32:
            return False
        value = value[length + -length % 4 :]
        if not value:
            return True
    return False


def is_text(value: bytes) -> bool:
    return (
        len(value) > 2
        and value.endswith(b"\0")
        and value[:-1].isascii()
        and value[:-1].decode().isprintable()
    )


def written() -> dict[str, str]:
    blocks = (block.partition("\n") for block in FILE.read_text().removeprefix("== ").split("\n== "))
    return {name: text.rstrip("\n") for name, _, text in blocks}


@pytest.mark.parametrize("name", BATCHES)
def test_the_bytes_are_those_that_the_kernel_has_understood(name: str) -> None:
    assert "\n".join(lines(BATCHES[name])) == written()[name]


if __name__ == "__main__":
    FILE.write_text("".join(f"== {name}\n{chr(10).join(lines(batch))}\n" for name, batch in BATCHES.items()))
