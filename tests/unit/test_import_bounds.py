# SPDX-License-Identifier: GPL-2.0-or-later
"""The bounds of a configuration that the importer reads; one item more is refused with its line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tandem.importer import conntrackd, draft, expand, items, keepalived, sources
from tandem.importer.draft import Draft, Entry, Origin, Section
from tests.unit.importing import Imported, instance


def expanded(text: str, include: expand.Include = expand.no_include) -> tuple[list[str], list[str]]:
    """The effective lines, and the errors."""
    found = expand.Expansion(text, "file", "r1", include)
    lines = [line.text for line in found]
    return lines, [problem.reason for problem in found.problems]


def test_a_line() -> None:
    assert expanded("a" * 16_384) == (["a" * 16_384], [])
    assert expanded("a" * 16_385 + "\nb") == (["b"], ["the line is longer than 16384 characters"])


def test_a_line_that_definitions_make_longer() -> None:
    text = "$A={}\n${{A}}${{A}}"
    assert expanded(text.format("b" * 8192)) == (["b" * 16_384], [])
    grown = "grows without end when its definitions are put in"
    assert expanded(text.format("b" * 8193)) == ([], [grown])


def test_definitions_inside_each_other() -> None:
    def chain(length: int) -> str:
        return "".join(f"$A{n}=$A{n + 1}\n" for n in range(length - 1)) + f"$A{length - 1}=end\n$A0"

    assert expanded(chain(63)) == (["end"], [])
    assert expanded(chain(64)) == ([], ["a definition contains itself"])


def test_files_that_include_each_other() -> None:
    def include(pattern: str, _file: str) -> Iterable[tuple[str, str]]:
        number = int(pattern)
        return [(pattern, f"include {number - 1}" if number else "end")]

    assert expanded("include 30", include) == (["end"], [])
    with pytest.raises(expand.TooMuch, match="more than 32 files include each other"):
        expanded("include 31", include)


def test_lines_with_all_that_is_repeated() -> None:
    found = expand.Expansion("~SEQ(X,100000) a", "file", "r1")
    lines = iter(found)
    assert sum(1 for _ in zip(range(99_999), lines, strict=False)) == 99_999
    with pytest.raises(expand.TooMuch, match="more than 100000 lines"):
        list(lines)


def test_what_is_said_of_one_configuration() -> None:
    assert len(expanded("include x\n" * 1000)[1]) == 1000
    assert len(expanded("include x\n" * 1001)[1]) == 1000


@pytest.mark.parametrize(
    ("depth", "wrong"), [(32, []), (33, ["more than 32 blocks inside each other: the rest is not read"])]
)
def test_blocks_inside_each_other(depth: int, wrong: list[str]) -> None:
    tree = keepalived.parse("a {\n" * depth + "}\n" * depth, "file")
    assert [problem.reason for problem in tree.problems if "closed" not in problem.reason] == wrong


@pytest.mark.parametrize(("depth", "wrong"), [(32, 0), (33, 1)])
def test_conntrackds_blocks_inside_each_other(depth: int, wrong: int) -> None:
    tree = conntrackd.parse("a {\n" * depth + "}\n" * depth, "file")
    assert len(tree.problems) == wrong


def test_too_much_is_told_at_the_line_where_it_ends() -> None:
    tree = keepalived.parse("a\nb\n" + "c {\n" * 33, "file")
    assert [problem.line for problem in tree.problems if "not read" in problem.reason] == [35]


def test_a_file(tmp_path: Path) -> None:
    for size, text in ((1 << 20, "x" * (1 << 20)), ((1 << 20) + 1, None)):
        (tmp_path / "file").write_text("x" * size)
        if text is not None:
            assert sources.read(str(tmp_path / "file")) == text
            continue
        with pytest.raises(ValueError, match="larger than 1048576 bytes"):
            sources.read(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("# a {\nvip 10.0.0.1", sources.UCARP), ("a {\nvip 10.0.0.1", sources.KEEPALIVED),
        ("", sources.KEEPALIVED),
        (" config globals", sources.UCI), ("package x", sources.UCI), ("Sync\n{", sources.CONNTRACKD),
        ("General {", sources.CONNTRACKD), ("/usr/sbin/ucarp -i eth0", sources.UCARP),
        ("words", sources.KEEPALIVED),
    ],
)  # fmt: skip
def test_what_program_a_text_is_for(text: str, kind: str) -> None:
    assert sources.kind_of(text) == kind


def test_a_first_line_that_is_too_much() -> None:
    tree = keepalived.parse("include x", "file", include=lambda pattern, file: [(pattern, "include x")])
    assert [problem.line for problem in tree.problems] == [0]


def test_the_braces_of_an_include() -> None:
    included = sources.Includes("")
    assert list(included("{" * 32 + "nothing" + "}" * 32, "/nowhere/file")) == []
    with pytest.raises(ValueError, match="more than 32 braces"):
        list(included("{" * 33 + "nothing" + "}" * 33, "/nowhere/file"))
    assert list(included("{a,b}" * 8, "/nowhere/file")) == []
    with pytest.raises(ValueError, match="more than 256 files"):
        list(included("{a,b}" * 8 + "{,c}", "/nowhere/file"))


def test_a_program_without_a_path_is_looked_for_on_that_router(imported: Imported) -> None:
    program = imported.directory / "root/usr/sbin/prog"
    program.parent.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    root = str(imported.directory / "root")
    imported.run("--root", root, k_conf=instance('notify_master "prog x"'))
    assert imported.only.notify.master == ("/usr/sbin/prog", "x")
    assert any("'prog' is /usr/sbin/prog here, found in PATH" in line for line in imported.said("note"))


# The draft


HERE = Origin("file", 3, "here")


def test_the_entries_of_a_section() -> None:
    section = Section("vrrp_instance", HERE)
    section.set("priority", "100", HERE)
    section.add("virtual_ipaddress", "10.0.0.1", HERE)
    section.add("virtual_ipaddress", "10.0.0.2", HERE)
    section.set("priority", "200", HERE)
    assert [(entry.name, entry.value) for entry in section.entries] == [
        ("virtual_ipaddress", "10.0.0.1"), ("virtual_ipaddress", "10.0.0.2"), ("priority", "200"),
    ]  # fmt: skip
    last = section.get("virtual_ipaddress")
    assert last is not None and last.value == "10.0.0.2" and section.get("state") is None
    section.drop(last)
    assert [entry.value for entry in section.entries] == ["10.0.0.1", "200"]


def test_globals_come_first_and_once() -> None:
    made = Draft()
    made.section("vrrp_instance", HERE)
    first = made.globals(HERE)
    assert made.sections[0] is first and made.globals(Origin("other", 1)) is first
    made.section("vrrp_script", HERE)
    assert made.globals(HERE) is first


@pytest.mark.parametrize("value", ["", "a\nb", "\x1b"])
def test_what_can_not_be_written_in_a_line(value: str) -> None:
    made = Draft()
    section = made.section("vrrp_instance", HERE)
    made.put(section, "name", value, HERE)
    made.put_item(section, "virtual_ipaddress", value, HERE)
    assert section.entries == []
    assert [str(problem) for problem in made.left_out] == [
        f"file:3: 'here': {name} can't hold it: it is empty, or has characters that can't be printed"
        for name in ("name", "virtual_ipaddress")
    ]


def test_the_text_of_a_draft() -> None:
    made = Draft()
    made.leave_out(Origin("b", 2), "gone")
    made.lose(Origin("a", 9), "lost")
    section = made.section("vrrp_instance", HERE)
    section.set("name", "V", HERE)
    made.globals(HERE).add("notify", "it's", HERE)
    assert made.render(["b", "a"]) == (
        "# Imported from b, a.\n#\n# Not imported:\n#   a:9: lost\n#   b:2: gone\n\n"
        "config globals 'globals'\n\tlist notify 'it'\\''s'\n\nconfig vrrp_instance\n\toption name 'V'\n"
    )


def test_a_long_comment_is_cut() -> None:
    text = Draft().render(["x" * 2000])
    assert len(text.splitlines()[0]) <= 2 + draft.LONGEST_COMMENT + 3


def test_required_entries_take_their_section_with_them() -> None:
    """A list is left out with its last item."""
    made = Draft()
    group = made.section("vrrp_sync_group", HERE)
    group.set("name", "G", HERE)
    group.add("group", "nobody", Origin("file", 7))
    assert made.settle() == () and made.sections == []
    assert [problem.line for problem in made.left_out] == [7]


def test_secrets_are_masked() -> None:
    assert draft.masked(["auth_pass", "x", "y"]) == "auth_pass ***"
    assert draft.masked(["auth_pass"]) == "auth_pass"
    assert draft.masked(["priority", "x"]) == "priority x"


def test_an_entry_is_an_option_unless_it_says_so() -> None:
    assert Entry("a", "b", HERE).is_list is False and items.Item().notes == []
