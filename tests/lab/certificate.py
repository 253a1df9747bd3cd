# SPDX-License-Identifier: GPL-2.0-or-later
"""A certificate of a web server, made by OpenSSL."""

from __future__ import annotations

import subprocess
from pathlib import Path


def self_signed(directory: Path, days: int, name: str = "web.example.org") -> tuple[Path, Path]:
    """Make a certificate that is valid for so many days; return its file and that of its key, in PEM."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    argv = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", str(key), "-out", str(cert), "-days", str(days), "-subj", f"/CN={name}",
    ]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True)
    return cert, key
