# SPDX-License-Identifier: GPL-2.0-or-later
"""The import of any file of another program ends in a result, or in errors with lines."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tandem.config import options, uci
from tandem.config.load import load_text
from tandem.importer import conntrackd, convert, dhcp, keepalived, openwrt, sources, ucarp
from tandem.importer.draft import Draft

DATA = Path(__file__).parents[1] / "unit/data"
SAMPLES = [path.read_text() for path in sorted((DATA / "import").rglob("*.*")) if path.is_file()]
SAMPLES.append((DATA / "keepalived_example.config").read_text())

VOCABULARY = """
vrrp_instance vrrp_sync_group vrrp_script vrrp_track_process global_defs static_routes { } { } " '
\\ # ! $A=1 $A ${A} $B=\\ $A=$A @r1 @^r1 ~SEQ(X,1,3) ~SEQ(X,1,999999999) ~LST(X,a,b) ~SEQ( include x
interface eth0 virtual_router_id 51 priority 100 300 virtual_ipaddress 192.168.1.4/24 fe80::1 dev
label state MASTER master advert_int 0.1 1.5 authentication auth_type PASS auth_pass s3cret
unicast_peer unicast_src_ip use_vmac track_script track_interface weight -5 reverse script
"/bin/true notify virtual_routes default via metric Sync General Mode FTFW UDP Multicast
IPv4_address IPv4_Destination_Address Port 3780 Filter Address Ignore Protocol Accept TCP State
config option list ucarp --vhid=7 -i -a vip name V ESTABLISHED group G
"""
WORDS = st.sampled_from(VOCABULARY.split())
SEPARATORS = st.sampled_from((" ", " ", "\n", "\n", "\t", ""))
SOUP = st.lists(st.tuples(WORDS, SEPARATORS), max_size=60).map(lambda found: "".join(a + b for a, b in found))


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A file of the corpus with pieces cut out, doubled or replaced."""
    text = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        text = (
            text[:start]
            + draw(st.sampled_from(("", text[start:end] * 2, "{", "}", '"', "\0")) | WORDS)
            + text[end:]
        )
    return text


def imported(text: str, kind: str) -> None:
    """Import the text as this kind of file, and hold the result against its promises."""
    draft = Draft()
    match kind:
        case sources.KEEPALIVED:
            convert.convert(keepalived.parse(text, "file", "r1"), draft)
        case sources.CONNTRACKD:
            conntrackd.convert(conntrackd.parse(text, "file"), draft, "10.0.0.2", "/nowhere", False)
        case sources.UCARP:
            ucarp.convert(text, "file", draft)
        case _:
            document = uci.read(text, "file")
            openwrt.convert(document, "file", draft)
            dhcp.convert(document.sections, "file", draft)
    errors = draft.settle()
    rendered = draft.render(["file"])
    loaded = load_text(rendered, "tandem")
    assert bool(errors) == bool(loaded.errors), "what passes here passes `tandem check`"
    lines = text.count("\n") + 1
    for problem in (*errors, *draft.left_out, *draft.remarks):
        # A text with too many repetitions is wrong as a whole.
        assert problem.reason and (problem.file == "file" or (problem.file, problem.line) == ("tandem", 0))
        assert 0 <= problem.line <= lines, problem
        assert "\n" not in str(problem)


@st.composite
def misplaced(draw: st.DrawFn) -> str:
    """Well-formed blocks with any keyword anywhere, and values of another kind."""
    keyword = st.sampled_from(sorted({*options.SECTIONS["vrrp_instance"], *options.SECTIONS["vrrp_script"]}))
    inner = st.sampled_from(("authentication", "track_script", "unicast_peer", "virtual_routes", "group"))
    value = st.sampled_from(("x", "1e400", "-1", "99999999999", "0.5", "on", "", "AH", "MASTER", "fe80::1"))
    line = st.tuples(keyword, value | WORDS).map(" ".join)
    lines = st.lists(line, min_size=4, max_size=30).map("\n".join)
    block = st.tuples(lines, inner, lines).map(lambda found: "{}\n{} {{\n{}\n}}".format(*found))
    kinds = st.sampled_from(
        ("vrrp_instance", "vrrp_instance", "vrrp_sync_group", "vrrp_script", "global_defs")
    )
    blocks = st.lists(st.tuples(kinds, st.sampled_from(("V", "G", "", '"a b"')), block), max_size=4)
    return "\n".join(f"{kind} {name} {{\n{inside}\n}}" for kind, name, inside in draw(blocks))


KINDS = st.sampled_from((sources.KEEPALIVED, sources.CONNTRACKD, sources.UCARP, sources.UCI))


@given(st.text() | SOUP, KINDS)
def test_any_text(text: str, kind: str) -> None:
    imported(text, kind)
    assert sources.kind_of(text)


@given(damaged(), KINDS)
def test_a_damaged_file(text: str, kind: str) -> None:
    imported(text, kind)


@given(damaged())
def test_a_damaged_file_as_what_it_looks_like(text: str) -> None:
    imported(text, sources.kind_of(text))


@given(misplaced())
def test_any_keyword_anywhere(text: str) -> None:
    imported(text, sources.KEEPALIVED)


@given(st.text(alphabet=" \t\"'\\abx0123{}#!$", max_size=60))
def test_commands_are_split_or_refused(text: str) -> None:
    try:
        words = keepalived.split_command(text)
    except ValueError as error:
        assert str(error)
    else:
        assert all(isinstance(word, str) for word in words)
