"""What the benchmarks keep: medians, and what a later run takes the place of."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.results import Machine, Measurement, Result, Run, load, merged, recording, save

HERE = Machine(2, "a processor", 4.0, "3.11.7")


def run(commit: str, *measurements: Measurement, facts: dict[str, dict[str, str]] | None = None) -> Run:
    now = datetime(2026, 11, 21, 20, tzinfo=UTC)
    return Run("python -m benchmarks.x", now, now, commit, False, HERE, (0.1, 0.9), {}, facts or {}, [*measurements])


def rate(subject: str, *values: float | None, quantity: str = "drain") -> Measurement:
    return Measurement(subject, quantity, "jobs/s", [*values])


def test_the_median_is_that_of_the_rounds_and_the_spread_their_ends() -> None:
    three = rate("Redis", 30.0, 10.0, 20.0)
    assert three.median == 20.0
    assert three.spread == (10.0, 30.0)
    assert rate("Redis", 10.0, 20.0).median == 15.0


def test_a_round_that_did_not_get_there_took_for_ever() -> None:
    assert rate("RQ", 5.0, None, 7.0).median == 7.0
    assert rate("RQ", None, None, 7.0).median == math.inf
    assert rate("RQ", 5.0, None).spread == (5.0, math.inf)


def test_a_later_run_takes_the_place_of_what_it_measured_and_leaves_the_rest() -> None:
    first = run("aaa", rate("Redis", 1.0), rate("SQLite", 2.0), rate("Redis", 3.0, quantity="enqueue"))
    result = merged(merged(Result("x"), first), run("bbb", rate("Redis", 4.0)))
    found = result.find("Redis", "drain"), result.run_of("Redis", "drain")
    assert found[0] is not None
    assert found[1] is not None
    assert (found[0].values, found[1].commit) == ([4.0], "bbb")
    kept = result.find("SQLite", "drain"), result.run_of("SQLite", "drain")
    assert kept[0] is not None
    assert kept[1] is not None
    assert (kept[0].values, kept[1].commit) == ([2.0], "aaa")
    other = result.find("Redis", "enqueue")
    assert other is not None
    assert other.values == [3.0]
    assert result.subjects() == ["SQLite", "Redis"]
    assert result.subjects("enqueue") == ["Redis"]


def test_a_run_with_nothing_left_is_gone() -> None:
    result = merged(Result("x"), run("aaa", rate("Redis", 1.0)))
    assert [one.commit for one in merged(result, run("bbb", rate("Redis", 2.0))).runs] == ["bbb"]


def test_the_newest_fact_of_a_subject_counts() -> None:
    old = run(
        "aaa",
        rate("RQ", 1.0),
        rate("Huey", 1.0),
        facts={"RQ": {"acks": "before", "failure": "x"}, "Huey": {"acks": "no"}},
    )
    result = merged(merged(Result("x"), old), run("bbb", rate("RQ", 2.0), facts={"RQ": {"acks": "after"}}))
    assert (result.fact("RQ", "acks"), result.fact("Huey", "acks")) == ("after", "no")
    assert (result.fact("RQ", "failure"), result.fact("RQ", "settings")) == (None, None)


def test_what_is_recorded_is_read_again(tmp_path: Path) -> None:
    with recording("x", command="python -m benchmarks.x", folder=tmp_path) as recorder:
        recorder.version("Redis", "7.0.15")
        for value in (1234.5678, 2.0, None):
            recorder.add("Redis", "drain", "jobs/s", value)
        recorder.fact("Redis", "settings", "append-only file")
        assert recorder.median("Redis", "drain") == 1234.57
    result = load("x", tmp_path)
    found = result.find("Redis", "drain")
    assert found is not None
    assert (found.values, found.unit) == ([1234.57, 2.0, None], "jobs/s")
    [one] = result.runs
    assert (one.command, one.versions) == ("python -m benchmarks.x", {"Redis": "7.0.15"})
    assert one.began <= one.ended
    assert load("x", save(result, tmp_path).parent) == result


def test_what_was_measured_before_an_error_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), recording("x", folder=tmp_path) as recorder:  # noqa: PT012
        recorder.add("Redis", "drain", "jobs/s", 1.0)
        recorder.add("Redis", "enqueue", "jobs/s", 1 / 0)
    assert load("x", tmp_path).subjects() == ["Redis"]


def test_a_run_that_measured_nothing_leaves_what_there_was(tmp_path: Path) -> None:
    with recording("x", folder=tmp_path):
        pass
    assert load("x", tmp_path) == Result("x")
    assert list(tmp_path.iterdir()) == []


def test_one_quantity_has_one_unit_and_is_a_number(tmp_path: Path) -> None:
    with recording("x", folder=tmp_path) as recorder:
        recorder.add("Redis", "latency", "ms", 1.0)
        with pytest.raises(ValueError, match="in ms, not in s"):
            recorder.add("Redis", "latency", "s", 1.0)
        with pytest.raises(ValueError, match="no measurement"):
            recorder.add("Redis", "latency", "ms", math.nan)
    found = load("x", tmp_path).find("Redis", "latency")
    assert found is not None
    assert found.values == [1.0]
