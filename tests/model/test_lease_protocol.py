"""The lease protocol holds in every reachable state; every known way to get it wrong is found out."""

from __future__ import annotations

import os

import pytest

from model import lease_mutants as mutants
from model.lease_protocol import Design, Setting, a_job, explore

EVERY_OUTCOME = ("done", "fail", "snooze", "release")
ONE_JOB = Setting((a_job(),))
SETTINGS = {
    "two crashes and a lost reply": ONE_JOB,
    "more lost replies": Setting((a_job(),), losses=3, crashes=1),
    "every outcome": Setting((a_job(),), EVERY_OUTCOME, crashes=1),
    "cancelled": Setting((a_job(),), crashes=1, cancels=1),
    "retried by hand": Setting((a_job(),), crashes=1, retries=1),
    "never to crash": Setting((a_job(max_crashes=0),), EVERY_OUTCOME, losses=2),
    "at most once": Setting((a_job(at_most_once=True),), ("done", "dead", "release"), losses=2, cancels=1),
    "expiring": Setting((a_job(expires=1.0),), ("done", "fail", "release"), cancels=1),
    "two jobs": Setting((a_job(0), a_job(1, at_most_once=True)), crashes=1, losses=0),
}
NIGHTLY = {
    "three workers": Setting((a_job(max_crashes=2),), workers=3, crashes=3),
    "two jobs, lost replies": Setting((a_job(0), a_job(1)), crashes=2, losses=1),
    "everything": Setting((a_job(),), EVERY_OUTCOME, losses=2, cancels=1, retries=1),
}
if os.environ.get("HYPOTHESIS_PROFILE") == "nightly":
    SETTINGS |= NIGHTLY

MUTANTS: list[tuple[type[Design], str, int]] = [
    (mutants.AcknowledgedById, "zombie write", 6),
    (mutants.UpdateWhereId, "zombie write", 5),
    (mutants.PopThenRecord, "lost", 2),
    (mutants.AcknowledgeThenRetry, "lost", 4),
    (mutants.CountedOnFailure, "poison loop", 7),
    (mutants.NoReaper, "stuck", 2),
    (mutants.ReaperLockWithoutExpiry, "stuck", 5),
    (mutants.AcknowledgeThenResult, "result missing", 4),
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SETTINGS)
def test_the_protocol_holds_in_every_state(name: str) -> None:
    report = explore(Design(SETTINGS[name]))
    print(f"{name}: {report.states} states")
    assert report.verdict == "holds", "\n".join(report.trace)
    assert report.states > 100


@pytest.mark.parametrize(("mutant", "verdict", "steps"), MUTANTS, ids=lambda value: getattr(value, "__name__", None))
def test_every_known_mistake_is_found(mutant: type[Design], verdict: str, steps: int) -> None:
    report = explore(mutant(ONE_JOB))
    print(f"{mutant.__name__}: {report.states} states, {report.verdict} in {len(report.trace)} steps")
    assert report.verdict == verdict, "\n".join(report.trace)
    assert len(report.trace) <= steps + 1, "\n".join(report.trace)
