# SPDX-License-Identifier: GPL-2.0-or-later
"""Hypothesis profiles: `gate` (the same small set every time, for CI), `hunt` (large, by hand).

HYPOTHESIS_PROFILE=hunt pytest tests/property
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

settings.register_profile(
    "gate", max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=SLOW
)
settings.register_profile(
    "hunt", max_examples=5000, deadline=None, print_blob=True, suppress_health_check=SLOW
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))
