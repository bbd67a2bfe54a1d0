"""Bounds on generated examples: the same ones on every run of CI, fresh ones elsewhere."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fresh",
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is
)
settings.register_profile("ci", settings.get_profile("fresh"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "fresh")
