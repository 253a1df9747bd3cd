# SPDX-License-Identifier: GPL-2.0-or-later
"""A secret is refused when it can be guessed: this module estimates how long that takes. Pure.

An attacker who records one handshake of the channel can try secrets offline, billions a second. A secret must
therefore be worth LEAST bits to somebody who knows how people make secrets up: common words, rows of keys,
repetitions and years are worth little, however long they are. The remaining characters are worth what their
number and their variety allow.
"""

from __future__ import annotations

import re
from math import log2

LEAST = 55  # bits: 17 digits, or 12 characters of any kind
_WORTH = 6  # bits of a common word, row of keys or year

_WORDS = (
    "password", "passwort", "passwd", "passphrase", "secret", "geheim", "private", "shared", "default",
    "changeme", "change", "admin", "administrator", "root", "user", "test", "testing", "demo",
    "example", "sample", "welcome", "letmein", "login", "access", "master", "backup", "router",
    "gateway", "openwrt", "tandem", "keepalived", "vrrp", "conntrack", "failover", "network",
    "internet", "firewall", "security", "secure", "server", "office", "home", "house", "company",
    "linux", "monkey", "dragon", "sunshine", "iloveyou", "football", "baseball", "princess", "superman",
    "hello", "world", "sync", "key", "my", "our", "the", "this", "that", "very", "with", "and", "for",
    "not",
)  # fmt: skip
_ROWS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl",
         "zxcvbnm", "yxcvbnm", "1qaz2wsx3edc4rfv5tgb6yhn")  # fmt: skip
_DISGUISES = str.maketrans("013457@$!", "oleastasi")
_YEAR = re.compile(r"(?:19|20)\d\d")
_DIGITS = re.compile("[0-9]*")


def guessable(secret: bytes) -> bool:
    """Return whether a secret is worth less than LEAST bits."""
    text = secret.decode("latin-1")
    parts, rest = _taken_out(_once(text))
    return parts * _WORTH + _worth(rest) < LEAST


def _once(text: str) -> str:
    """Return the shortest text of which `text` is a repetition, without runs of one character."""
    text = re.sub(r"(.)\1{2,}", r"\1\1", text, flags=re.DOTALL)
    again = (text + text).find(text, 1)
    return text[:again] if again < len(text) else text


def _taken_out(text: str) -> tuple[int, str]:
    """Return how many common parts a text has, and the text without them."""
    parts = 0
    plain = text.lower()
    for form in (plain, plain.translate(_DISGUISES)):
        for word in sorted(_WORDS, key=len, reverse=True):
            at = form.find(word)
            while at >= 0:
                parts += 1
                # No secret has this character: the parts beside the word must not become one word.
                text, plain, form = (
                    t[:at] + "\0" * len(word) + t[at + len(word) :] for t in (text, plain, form)
                )
                at = form.find(word)
    parts += len(_YEAR.findall(text))
    text = _YEAR.sub("\0", text)
    for length in range(12, 3, -1):
        for at in range(len(text) - length + 1):
            piece = text[at : at + length].lower()
            if any(piece in row or piece in row[::-1] for row in _ROWS):
                parts += 1
                text = text[:at] + "\0" * length + text[at + length :]
    return parts, text.replace("\0", "")


def _worth(text: str) -> float:
    """Return the bits of a text, from its length and the number of different characters."""
    kinds = max(2, 2 * len(set(text)))  # at 12 letters it is what 26 allow; more of them are enough anyway
    return len(text) * log2(min(kinds, 10) if _DIGITS.fullmatch(text) else kinds)
