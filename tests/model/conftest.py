"""How hard Hypothesis tries: `HYPOTHESIS_PROFILE=nightly` looks much longer."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "normal", max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=SLOW, print_blob=True
)
settings.register_profile(
    "nightly", max_examples=5000, stateful_step_count=80, deadline=None, suppress_health_check=SLOW, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))
