# SPDX-License-Identifier: GPL-2.0-or-later
"""Imports `dataclasses` without `inspect`, which is 1.4 MiB of the daemon's memory for two small things.

dataclasses asks inspect for the signature of a class that has no docstring, and from Python 3.12 on for
a class's annotations. The daemon imports this module before anything else that might import either.
"""

from __future__ import annotations

import sys
import types


def _get_annotations(cls: type) -> dict[str, object]:
    """What `inspect.get_annotations` says of a class whose annotations are strings."""
    return dict(vars(cls).get("__annotations__", {}))


if "dataclasses" not in sys.modules and "inspect" not in sys.modules and sys.version_info < (3, 14):
    _light = types.ModuleType("inspect")
    _light.get_annotations = _get_annotations  # type: ignore[attr-defined]
    _light.signature = lambda _cls: "()"  # type: ignore[attr-defined]
    sys.modules["inspect"] = _light
    try:
        import dataclasses  # noqa: F401
    finally:
        del sys.modules["inspect"]  # whoever needs the real one gets it
