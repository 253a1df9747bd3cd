# SPDX-License-Identifier: GPL-2.0-or-later
"""The secrets of a section that has keys: `peer`, and `conntrack_sync` for the peers that it lists."""

from __future__ import annotations

from tandem.config.guessable import guessable
from tandem.config.read import Item, Parsed
from tandem.config.sync_values import read_secret

OPTIONS = ("secret", "secret_file", "key")

Keys = tuple[tuple[tuple[int, bytes], ...], int]
"""All secrets by key id, and the key id that this router uses; 0: none, or one in error."""


def given(parsed: Parsed) -> list[str]:
    """Return the options of the section that hold secrets."""
    return [option for option in OPTIONS if parsed.given(option)]


def read(parsed: Parsed, files: bool) -> Keys:
    """Read the section's secrets; b"" for one that is in error, or in a file while `files` is false."""
    secrets: dict[int, bytes] = {}
    if parsed.given("secret") and parsed.given("secret_file"):
        parsed.error("contradicts secret", "secret_file")
    for option in ("secret_file", "secret"):
        if parsed.given(option):
            secrets[1] = b""
        for item in parsed.all(option):
            secrets[1] = _secret(parsed, option, item, item.value, files)
    for item in parsed.all("key"):
        key_id, source = item.value
        if key_id in secrets:
            where = "secret" if parsed.given("secret") else "secret_file"
            reason = f"key id 1 is the one of {where}" if key_id == 1 and parsed.given(where) else ""
            parsed.error(reason or f"key id {key_id} is given twice", "key", item)
        else:
            secrets[key_id] = _secret(parsed, "key", item, source, files)
    return tuple(sorted(secrets.items())), _key_id(parsed, secrets)


def single(parsed: Parsed) -> bytes:
    """Read the secret of a section that has only one; b"": it has none, or one in error."""
    if parsed.given("secret") and parsed.given("secret_file"):
        parsed.error("contradicts secret", "secret_file")
    for option in ("secret_file", "secret"):
        for item in parsed.all(option):
            return _secret(parsed, option, item, item.value, True)
    return b""


def _secret(parsed: Parsed, option: str, item: Item, source: bytes | str, files: bool) -> bytes:
    if isinstance(source, bytes):
        secret, what = source, "the secret"
    elif not files:
        return b""
    else:
        try:
            secret, what = read_secret(source), f"the secret in {source}"
        except ValueError as error:
            parsed.error(str(error), option, item)
            return b""
    if guessable(secret):
        parsed.error(
            f"{what} can be guessed by trying secrets that people make up: make a random one, for example"
            " with: head -c 24 /dev/urandom | base64",
            option,
            item,
        )
    return secret


def _key_id(parsed: Parsed, secrets: dict[int, bytes]) -> int:
    listed = ", ".join(map(str, sorted(secrets)))
    key_id: int | None = parsed.get("key_id")
    keys = parsed.section.options.get("key")
    if keys is not None and len(parsed.all("key")) < sum(bool(value.text) for value in keys.values):
        return key_id or 0  # it may be one of those in error
    if key_id is None and (1 in secrets or len(secrets) == 1):
        return min(secrets)
    if key_id is None:
        parsed.error(f"is missing: which of the keys {listed} does this router use?", "key_id")
    elif key_id not in secrets:
        have = f"there are {listed}" if len(secrets) > 1 else f"there is {listed}"
        parsed.error(f"there is no key with this id; {have}", "key_id")
    return key_id or 0
