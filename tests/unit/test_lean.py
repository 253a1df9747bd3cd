# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's parts of the standard library beside the originals."""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import json
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.lean import dataclass as lean
from tandem.lean import enumeration, json_codec

SOURCE = Path(__file__).resolve().parents[2] / "src"
STRIP = SOURCE.parent / "openwrt-feed/standalone/strip.py"
# All modules of the resident daemon, with everything configured.
RESIDENT = (
    "tandem.tandemd, tandem.daemon, tandem.replication.replication, tandem.replication.configured, "
    "tandem.dhcp.gateway, tandem.openwrt.integration, tandem.doctor.exchange, "
    "tandem.follow.following"
)


def classes(module: ModuleType) -> list[Any]:
    dataclass, field = module.dataclass, module.field

    @dataclass(frozen=True, slots=True)
    class Nothing:
        """No field."""

    @dataclass(frozen=True, slots=True)
    class One:
        value: object

    @dataclass(frozen=True, slots=True)
    class Point:
        """Some defaults."""

        x: int
        y: int = 5
        secret: tuple[int, ...] = field(default=(), repr=False)

        @property
        def sum(self) -> int:
            return self.x + self.y

    @dataclass(slots=True)
    class Box:
        items: list[int] = field(default_factory=list)
        count: int = 0

        def __post_init__(self) -> None:
            self.count = len(self.items)

    class Until:
        __slots__ = ()
        until: int

        def left(self, now: int) -> int:
            return self.until - now

    @dataclass(frozen=True, slots=True)
    class Lease(Until):
        until: int

        @property
        def last(self) -> int:
            return self.left(1)

    return [Nothing, One, Point, Box, Lease]


CALLS: list[tuple[int, tuple[Any, ...], dict[str, Any]]] = [
    (0, (), {}), (0, (1,), {}), (1, ("a",), {}), (1, ([],), {}), (1, (), {}), (2, (1,), {}),
    (2, (1, 2), {"secret": (3,)}), (2, (), {"y": 1}), (2, (1, 2, 3, 4), {}), (2, (), {"y": 1, "x": 0}),
    (2, (1,), {"z": 1}), (2, (1,), {"x": 1}),
    (3, (), {}), (3, ([1, 2],), {}), (3, (), {"count": 3}), (4, (5,), {}), (4, (), {}),
]  # fmt: skip


def outcome(kind: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The result of making and using an object; the kind of error when there is one."""
    try:
        made = kind(*arguments, **named)
    except TypeError:
        return TypeError
    said: list[Any] = [repr(made).split(".")[-1], made == kind(*arguments, **named), made != object()]
    said += [made.__match_args__, made.__slots__, [getattr(made, name) for name in made.__slots__]]
    said += [kind.__doc__ or "", made in (made,), getattr(made, "sum", None), getattr(made, "last", None)]
    try:
        said.append(hash(made) == hash(kind(*arguments, **named)))
    except TypeError:
        said.append(TypeError)
    with pytest.raises((AttributeError, TypeError)):  # the latter from frozen classes with slots
        made.other = 1
    return said


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_objects_are_those_of_the_standard_library(number: int) -> None:
    index, arguments, named = CALLS[number]
    ours, theirs = (outcome(classes(module)[index], arguments, named) for module in (lean, dataclasses))
    if ours is not TypeError:  # without a docstring the real one writes one
        ours[6] = theirs[6] = None
    assert ours == theirs


def test_classes_are_different() -> None:
    _, one, point, *_ = classes(lean)
    assert one(1) != point(1) and point(1) != point(2) and len({point(1), point(1), point(2)}) == 2


def test_a_default_list_is_not_shared() -> None:
    box = classes(lean)[3]
    first, second = box(), box()
    first.items.append(1)
    assert second.items == [] and first != second


@pytest.mark.parametrize("module", [lean, dataclasses])
def test_replace_and_fields(module: Any) -> None:
    point = classes(module)[2]
    assert module.replace(point(1, 2, (3,)), y=7) == point(1, 7, (3,))
    assert [item.name for item in module.fields(point)] == ["x", "y", "secret"]
    assert [item.name for item in module.fields(point(1))] == ["x", "y", "secret"]
    assert module.is_dataclass(point(1)) and not module.is_dataclass(5)
    match point(1, 2):
        case point(x, y):
            assert (x, y) == (1, 2)


def test_the_daemon_has_it_and_others_do_not() -> None:
    def names(modules: str, how: str = "-I") -> list[str]:
        program = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import {modules}\n"
        program += "import dataclasses; print(dataclasses.__name__, *sys.modules)"
        done = subprocess.run(
            [sys.executable, how, "-c", program], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    resident = names(RESIDENT, "-IS")  # as the daemon: `make coverage` brings modules of its own by `site`
    assert resident[0] == "tandem.lean.dataclass"
    heavy = {
        "re",
        "inspect",
        "ast",
        "typing",
        "logging",
        "subprocess",
        "asyncio",
        "pyroute2",
        "scapy",
        "copy",
        "functools",
        "reprlib",
    }
    assert heavy.isdisjoint(resident)
    assert names("tandem.plan.process")[0] == names("tandem.control.cli")[0] == "dataclasses"


MEMBERS = """
import sys
sys.path.insert(0, sys.argv[1])
import {modules}
for name, module in sorted(sys.modules.items()):
    for cls in vars(module).values() if name.startswith("tandem.") else ():
        if not isinstance(cls, type) or cls.__module__ != name:
            continue
        if "__match_args__" in vars(cls):
            own = [one for one in dir(cls) if not one.startswith("__") and one not in {stand_in}]
            print(name, cls.__qualname__, cls.__match_args__, own)
        if type(cls).__name__ == "EnumType":
            print(name, cls.__qualname__, [(one.name, one.value) for one in cls])
"""


def test_the_daemons_dataclasses_and_enumerations_have_all_their_members() -> None:
    """Those of a base as well: a lease was without, and all tests with leases need pieces of OpenWrt."""
    found = []
    for how in ("tandem.lean.resident", "dataclasses"):
        program = MEMBERS.format(modules=f"{how}, {RESIDENT}", stand_in=[*vars(lean._Record)])
        argv = [sys.executable, "-IS", "-c", program, str(SOURCE)]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        found.append([line for line in said if not line.startswith("tandem.lean")])
    assert found[0] == found[1] and len(found[0]) > 100


def colours(module: Any) -> Any:
    class Colour(module.Enum):  # type: ignore[misc,name-defined]
        """A colour."""

        RED = "red"
        BLUE = "blue", "like the sky"

        @property
        def first(self) -> str:
            return str(self.value[0])

        def darker(self) -> str:
            return f"dark {self.name}"

    return Colour


def described(kind: Any) -> list[Any]:
    red, blue = kind
    said: list[Any] = [
        (one.name, one.value, one.first, one.darker(), repr(one), str(one), f"{one}") for one in kind
    ]
    said += [kind("red") is kind["RED"] is kind.RED, len(kind), red == blue, red != blue, red in kind]
    said += [{red: 1, blue: 2}[kind.BLUE], hash(red) == hash(kind.RED), isinstance(red, kind)]
    said += [kind.__name__, kind.darker(red)]
    for wrong in (lambda: kind("green"), lambda: kind["GREEN"], lambda: kind.GREEN):
        with pytest.raises((ValueError, KeyError, AttributeError)) as refused:
            wrong()
        said.append((refused.type, str(refused.value) if refused.type is not AttributeError else ""))
    return said


def test_enumerations_are_those_of_the_standard_library() -> None:
    assert described(colours(enumeration)) == described(colours(enum))


def test_enumerations_are_different() -> None:
    first, second = colours(enumeration), colours(enumeration)
    assert first.RED != second.RED and {first.RED, second.RED} == {second.RED, first.RED}


def calls_of_c(module: Any) -> list[Any]:
    """What C answers through `module`, which is `ctypes` or the daemon's stand-in."""
    library, with_errno = module.CDLL(None), module.CDLL(None, use_errno=True)
    library.strtoul.restype, library.strtoul.argtypes = (
        module.c_ulong,
        (module.c_char_p, module.c_void_p, module.c_int),
    )
    said: list[Any] = [library.strtoul(b"ff", None, 16), library.abs(-5), with_errno.close(-1)]
    said.append(module.get_errno())

    class Pair(module.Structure):  # type: ignore[misc,name-defined]
        _fields_ = (
            ("flag", module.c_bool), ("small", module.c_byte), ("number", module.c_uint32),
            ("text", module.c_char_p), ("numbers", module.POINTER(module.c_int)),
        )  # fmt: skip

    numbers = (module.c_int * 3)(3, 1, 2)
    pair = Pair(flag=True, small=-1, number=2**32 - 1, text=b"text", numbers=numbers)
    again = Pair.from_address(module.addressof(pair))
    said += [again.flag, again.small, again.number, again.text, again.numbers[2], Pair.number.offset]
    said += [module.sizeof(Pair), module.pointer(pair).contents.text]

    kind = module.CFUNCTYPE(module.c_int, module.POINTER(module.c_int), module.POINTER(module.c_int))
    library.qsort(numbers, 3, module.sizeof(module.c_int), kind(lambda one, other: one[0] - other[0]))
    said.append(list(numbers))

    found = module.c_uint16(5)
    library.memset(module.byref(found), 1, 2)
    said.append(found.value)
    for buffer in (
        module.create_string_buffer(4),
        module.create_string_buffer(b"a\0b"),
        module.create_string_buffer(b"a\0b", 3),
    ):
        said += [buffer.raw, module.string_at(module.addressof(buffer), 3)]
    for wrong in (lambda: module.CDLL("/no/library.so"), lambda: library.no_such_function):
        with pytest.raises((OSError, AttributeError)) as refused:
            wrong()
        said += [refused.type, str(refused.value)]
    return said


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the daemon has the original")
def test_c_is_called_as_by_the_standard_library() -> None:
    from tandem.lean import clib

    assert calls_of_c(clib) == calls_of_c(ctypes)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([(", ", ": "), (",", ":")]))
def test_json_is_that_of_the_standard_library(value: Any, separators: tuple[str, str]) -> None:
    text = json_codec.dumps(value, separators=separators)
    assert text == json.dumps(value, separators=separators)
    assert json_codec.loads(text) == json_codec.loads(f" {text}\n".encode()) == value


@given(st.text(alphabet='[]{}",:0123456789.eE+-truefalsn\\u \n', max_size=20) | st.binary(max_size=20))
def test_garbage_is_refused_as_by_the_standard_library(text: str | bytes) -> None:
    def read(module: Any) -> Any:
        try:
            return repr(module.loads(text))
        except ValueError:
            return ValueError

    if isinstance(text, bytes) and b"\0" in text:
        return  # the real one tries UTF-16 and UTF-32
    assert read(json_codec) == read(json)


def test_what_is_no_json_is_refused_or_left_to_the_caller() -> None:
    with pytest.raises(TypeError, match="set is not JSON"):
        json_codec.dumps({1})
    assert json_codec.dumps({1}, default=repr) == json.dumps({1}, default=repr)
    with pytest.raises(RecursionError):
        json_codec.loads("[" * 100_000)


DOCUMENTED = '''
"""Of a module."""
from __future__ import annotations
class Plain:
    kind = "a text"
class Documented:
    """Of a class."""
    kind = "a text"
    def method(self):
        """Of a method."""
        return "a result"
def plain():
    return "first"
NAMES = ("a", "return"), ("value", "return", "None"), ("return",)
def several(names: list[str]) -> tuple[object, ...]:
    """Of a function."""
    def inner():
        """Of an inner one."""
        return [f"{name}!" for name in names]
    return inner, (lambda: "first"), list("".join((":", one)) for one in names)
'''
ASK = """
import sys
sys.path[:0] = sys.argv[1:]
import tandem.lean.resident, documented as found
inner, short, joined = found.several(["a"])
assert found.__doc__ is found.Documented.__doc__ is found.Documented.method.__doc__ is inner.__doc__ is None
assert found.several.__doc__ is None
assert found.several.__annotations__ == {} or sys.version_info >= (3, 14)
assert found.NAMES == (("a", "return"), ("value", "return", "None"), ("return",))
assert (found.Plain.kind, found.Documented.kind) == ("a text", "a text")
assert found.Documented().method() == "a result"
assert (found.Plain.__name__, found.Documented.__qualname__) == ("Plain", "Documented")
assert (found.plain(), inner(), short(), joined) == ("first", ["a!"], "first", [":a"])
assert not {"selectors", "math", "inspect"} & sys.modules.keys()
import selectors, subprocess, functools
assert selectors.DefaultSelector and functools.namedtuple
assert subprocess.run([sys.executable, "-c", ""]).returncode == 0
"""


def test_modules_lose_their_docstrings_and_annotations_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "documented.py").write_text(DOCUMENTED)
    py_compile.compile(str(tmp_path / "documented.py"), doraise=True)
    argv = [sys.executable, "-IS", "-c", ASK, str(tmp_path), str(SOURCE)]
    subprocess.run(argv, check=True)


@pytest.mark.parametrize("stripped", [False, True])
def test_modules_that_a_package_has_stripped_are_loaded_as_they_are(stripped: bool, tmp_path: Path) -> None:
    """To look at each of them took an eighth of the CPU time of a start."""
    shutil.copytree(SOURCE / "tandem/lean", tmp_path / "tandem/lean")
    if stripped:
        subprocess.run([sys.executable, str(STRIP), str(tmp_path)], check=True)
    ask = "import sys; sys.path.insert(0, sys.argv[1]); import tandem.lean.resident\n"
    ask += "import _frozen_importlib_external as found; print(found._compile_bytecode.__module__)"
    argv = [sys.executable, "-IS", "-c", ask, str(tmp_path)]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    assert said == ("_frozen_importlib_external" if stripped else "tandem.lean.loading")


SETTLED = """
import sys
sys.path.insert(0, sys.argv[1])
import tandem.tandemd, tandem.daemon
from tandem.scheduling import settle_memory
settle_memory()
assert tandem.daemon.__spec__ is None
import tandem.doctor.exchange, tandem.replication.replication, tandem.openwrt.integration
settle_memory()
from tandem.daemon import Daemon
import tandem.router, importlib, functools
assert importlib.import_module("tandem.sharing") is sys.modules["tandem.sharing"]
"""


def test_imports_go_on_when_it_is_forgotten_how_modules_were_loaded() -> None:
    subprocess.run([sys.executable, "-IS", "-c", SETTLED, str(SOURCE)], check=True)
