# SPDX-License-Identifier: GPL-2.0-or-later
"""The schema of the status: what it allows. tests/lab/router.py holds every status of a real daemon to it."""

from __future__ import annotations

import copy
from typing import Any, is_typeddict

import pytest

from tandem import status_schema
from tests.tools.json_schema import problems
from tests.tools.status_files import schema
from tests.unit.status_snapshot import STATUS


def test_the_example_fits() -> None:
    assert list(problems(STATUS, schema())) == []


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["pid"], "1", ".pid: '1' is no integer"),
        (["pid"], True, ".pid: True is no integer"),
        (["version"], None, ".version: None is no string"),
        (["instances", 1, "peer"], {}, ".instances[1].peer: {} is no null"),
        (["instances", 1, "snat"], 4, ".instances[1].snat: 4 is no string"),
        (["health"], {"dhcp": "down"}, ".health.dhcp: 'down' is no array"),
        (["groups", 0, "new"], 1, ".groups[0].new is not in the schema"),
        (["networks"], [], ".networks: [] is no object"),
    ],
)
def test_what_does_not_fit(path: list[Any], value: Any, problem: str) -> None:
    status = copy.deepcopy(STATUS)
    place: Any = status
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert list(problems(status, schema())) == [problem]


def test_every_field_is_required() -> None:
    status = copy.deepcopy(STATUS)
    del status["pid"], status["groups"][1]["faults"]
    assert list(problems(status, schema())) == [".pid is missing", ".groups[1].faults is missing"]


def test_every_field_is_explained() -> None:
    kinds = [kind for kind in vars(status_schema).values() if is_typeddict(kind)]
    fields = [
        hint
        for kind in kinds
        if kind is not status_schema.DaemonFacts
        for hint in kind.__annotations__.values()
    ]
    assert len(fields) > 80
    assert all("Annotated[" in str(getattr(hint, "__forward_arg__", hint)) for hint in fields)
