# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets are refused that somebody would guess."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.config.guessable import guessable
from tandem.setup.files import new_secret


@pytest.mark.parametrize(
    "secret",
    [
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "passwordpassword",
        "password12345678",
        "P@ssw0rdP@ssw0rd1!",
        "changemechangeme",
        "1234567890123456",
        "12345678901234567890123456789012",
        "0123456789abcdef",
        "abcdefghijklmnopqrstuvwxyz",
        "qwertyuiopasdfghjkl",
        "abcabcabcabcabcabcabcabc",
        "tandem-secret-2024",
        "my-openwrt-router-secret",
        "OpenWrt-Router-2025",
        "TandemSecretKey2026!",
        "1qaz2wsx3edc4rfv",
        "0000000000000000000000000000000",
        "192.168.1.1192.168.1.1",
        "................................................................",
    ],
)
def test_what_everybody_tries_first(secret: str) -> None:
    assert guessable(secret.encode())


@pytest.mark.parametrize(
    "secret",
    [
        "correct horse battery",
        "at least sixteen bytes",
        "kqjxzvwpmnbdrtgh",
        "839501746508928374651143",
        "a4f09c17e2b83d65",
        "Tg7#kQ!x9Lm2vR4z",
    ],
)
def test_what_nobody_guesses(secret: str) -> None:
    assert not guessable(secret.encode())


@pytest.mark.parametrize(
    "secret",
    ["83950174628097153", "kqjxzvwpmnbd", "kQjXzVwPmNbD", "k8q3j9x0z7vd", "Tg7#kQ!x9L%m", "äöü€#+*~'_;:"],
    ids=["digits", "letters", "both cases", "letters and digits", "all", "others"],
)
def test_how_many_characters_are_enough(secret: str) -> None:
    assert not guessable(secret.encode("latin-1", "replace"))
    assert guessable(secret[:-1].encode("latin-1", "replace"))


def test_what_init_makes() -> None:
    assert not any(guessable(new_secret().encode()) for _ in range(300))


def test_random_bytes() -> None:
    source = random.Random(4)
    assert not any(guessable(source.randbytes(16)) for _ in range(300))


@given(st.binary(max_size=64))
def test_any_bytes_have_an_answer(secret: bytes) -> None:
    assert isinstance(guessable(secret), bool)
