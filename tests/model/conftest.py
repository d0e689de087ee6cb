"""How hard Hypothesis tries: `HYPOTHESIS_PROFILE=nightly` looks much longer."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

for name, examples, steps in [("normal", 120, 40), ("nightly", 2000, 80)]:
    settings.register_profile(
        name,
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        phases=PHASES,
        suppress_health_check=SLOW,
        report_multiple_bugs=False,
        print_blob=True,
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))
