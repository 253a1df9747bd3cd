# SPDX-License-Identifier: GPL-2.0-or-later
"""The reader of UCI syntax gives the same as libuci's file.c for the same text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.config import uci


def values(text: str) -> list[str]:
    """The values of option o in the only section."""
    document = uci.read("config s\n" + text, "f")
    assert [str(problem) for problem in document.errors] == []
    return [value.text for value in document.sections[0].options["o"].values]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("option o value", "value"),
        ("option o 'a value'", "a value"),
        ('option o "a value"', "a value"),
        ("\toption\to\tvalue\t", "value"),
        ("option o 'a'b\"c\"'d'", "abcd"),  # adjacent pieces join
        (r"option o 'a\b'", r"a\b"),  # single quotes know no backslash
        (r'option o "a\"b\\c\d"', r'a"b\cd'),  # double quotes do, for any character
        (r"option o a\ b\'c", "a b'c"),
        ("option o 'don'\\''t'", "don't"),  # as uci export writes it
        ("option o 'two\nlines'", "two\nlines"),
        ('option o "two\nlines"', "two\nlines"),
        ('option o "one\\\nline"', "oneline"),
        ("option o one\\\nline", "oneline"),
        ("option o one\\\r\nline", "oneline"),
        ("option o value # comment", "value"),
        ("option o value#comment", "value"),  # even inside a word
        ("option o 'value#no comment'", "value#no comment"),
        ("option o 'value' ; option p 'x'", "value"),
        ("option o 'value';option p 'x'", "value"),
        ("option o value; option p x", "value"),
        ("option o 'value';", "value"),
        ("option 'o' value", "value"),
        ("o o value", "value"),  # one letter will do
        ("option o ''", ""),
        ("option o", ""),
        ("option o value\r\n", "value"),
        ("# comment\n\n \t\n  # another\noption o value", "value"),
    ],
)
def test_value(text: str, expected: str) -> None:
    assert values(text) == [expected]


def test_statements_on_one_line() -> None:
    document = uci.read("config a 'x'; option p 1; list l 2; list l 3\nc b; o p 4", "f")
    assert document.errors == ()
    first, second = document.sections
    assert (first.type, first.name, first.line) == ("a", "x", 1)
    assert [value.text for value in first.options["l"].values] == ["2", "3"]
    assert (second.type, second.name, second.index, second.label) == ("b", None, 0, "@b[0]")


def test_package_is_accepted() -> None:
    assert uci.read("package tandem\nconfig a\n", "f").errors == ()


def test_lists_and_options_of_one_name() -> None:
    """A list extends an option, an option replaces a list: uci_add_list(), uci_set()."""
    assert values("option o 1\nlist o 2") == ["1", "2"]
    assert values("list o 1\nlist o 2\noption o 3") == ["3"]
    assert values("option o 1\noption o 2") == ["2"]
    option = uci.read("config s\noption o 1\noption o 2", "f").sections[0].options["o"]
    assert (option.replaced, option.values[0].line) == ([2], 3)


def test_section_of_the_same_name_continues() -> None:
    document = uci.read("config a 'x'\noption p 1\nconfig b\nconfig a 'x'\noption q 2", "f")
    assert [(s.type, list(s.options)) for s in document.sections] == [("a", ["p", "q"]), ("b", [])]
    assert [problem.line for problem in document.warnings] == [4]


def test_index_counts_named_sections_too() -> None:
    document = uci.read("config a 'x'\nconfig a\nconfig b\nconfig a", "f")
    assert [section.label for section in document.sections] == ["x", "@a[1]", "@b[0]", "@a[2]"]


def test_errors_do_not_hide_each_other() -> None:
    document = uci.read(
        "nonsense\nconfig 'a' 'b' 'c'\noption o 1\nconfig s\noption\nlist o-p 1\noption o 1\n", "f"
    )
    assert [problem.line for problem in document.errors] == [1, 2, 5, 6]
    assert [section.type for section in document.sections] == ["s"]
    assert list(document.sections[0].options) == ["o"]


def test_number_of_sections_is_bounded() -> None:
    document = uci.read("config s\n" * 5000, "f")
    assert len(document.sections) == uci.MOST_SECTIONS
    assert [str(problem) for problem in document.errors] == ["f:4097: more than 4096 sections"]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_quote_is_the_inverse(text: str) -> None:
    assert values(f"option o {uci.quote(text)}\n") == [text]


@given(st.text())
def test_never_raises(text: str) -> None:
    uci.read(text, "f")
