# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that `tandem init` writes: for root alone, and whole or not at all."""

from __future__ import annotations

import os
import tempfile
from base64 import urlsafe_b64encode
from dataclasses import replace

from tandem.config import load, uci
from tandem.files import write_private
from tandem.setup.compose import compose
from tandem.setup.pair import Setup, SetupError

BACKUP = "config.before-init"  # beside the secret: UCI takes every file in /etc/config for a configuration


def new_secret() -> str:
    """Return a secret: 32 characters that stand for 192 random bits."""
    return urlsafe_b64encode(os.urandom(24)).decode()


def in_use(path: str) -> str | None:
    """Return why a configuration must not be replaced unasked; None: there is none, or only the example."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(uci.LARGEST_FILE)
    except FileNotFoundError:
        return None
    sections = uci.read(text, path).sections
    if not any(section.type == "vrrp_instance" for section in sections):
        return None
    for section in sections:
        enabled = section.options.get("enabled") if section.type == "globals" else None
        if enabled and enabled.values[-1].text in ("0", "off", "false", "no", "disabled"):
            return None
    return f"{path} is in use (enabled is not 0): --force replaces it and keeps a copy"


def verify(setup: Setup, secret: str) -> str:
    """Return a configuration that passes `tandem check`. SetupError, with every reason: there is none."""
    with tempfile.TemporaryDirectory(prefix="tandem-init-") as directory:
        trial = os.path.join(directory, "secret")
        write_private(trial, secret + "\n")
        loaded = load.load_text(compose(replace(setup, secret_file=trial)), "the new configuration")
    if loaded.errors:
        raise SetupError(*map(str, loaded.errors))
    return compose(setup)


def install(setup: Setup, text: str, secret: str, config: str) -> str | None:
    """Write secret and configuration; return the path of the copy of the old configuration, or None.

    The secret comes first, so that a configuration never names a missing secret. OSError.
    """
    directory = os.path.dirname(setup.secret_file)
    os.makedirs(directory, 0o700, exist_ok=True)
    copy = None
    try:
        with open(config, encoding="utf-8", errors="surrogateescape") as file:
            before = file.read()
    except FileNotFoundError:
        pass
    else:
        copy = os.path.join(directory, BACKUP)
        write_private(copy, before)
    if setup.peer:
        write_private(setup.secret_file, secret + "\n")
    os.makedirs(os.path.dirname(config) or ".", exist_ok=True)
    write_private(config, text)
    return copy
