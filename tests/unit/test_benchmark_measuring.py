"""How the benchmarks measure, and what can be said on their command lines."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.measuring import family, processor_time, quantile, usage
from benchmarks.options import options


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (51.0, 100.0, 100.0)
    assert quantile([7.0], 0.99) == 7.0


def test_processor_time_is_that_of_a_process_and_all_below_it() -> None:
    program = (
        "import os, sys; pid = os.fork(); pid or sum(range(5_000_000)); print(pid or 'child', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as parent:
        assert parent.stdout
        said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        [child] = said - {"child"}
        assert family([parent.pid]) == {parent.pid, int(child)}
        seconds, megabytes = usage(parent.pid)
        own, _ = usage(int(child))
        assert seconds > own > 0
        assert megabytes > 1
        assert processor_time([parent.pid]) >= processor_time([int(child)])
        parent.communicate("\n\n")


def test_sizes_are_smaller_when_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x"])
    given = options("", ["sqlite", "redis"], jobs=(1000, 10), rounds=(3, 1))
    assert (given.brokers, given.jobs, given.rounds, given.quick) == (["sqlite", "redis"], 1000, 3, False)
    monkeypatch.setattr(sys, "argv", ["x", "redis", "--quick", "--rounds", "2"])
    given = options("", ["sqlite", "redis"], jobs=(1000, 10), rounds=(3, 1))
    assert (given.brokers, given.jobs, given.rounds, given.quick) == (["redis"], 10, 2, True)


def test_a_broker_that_is_not_measured_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "oracle"])
    with pytest.raises(SystemExit):
        options("", ["sqlite", "redis"])
    assert "not known here: oracle; there are sqlite, redis" in capsys.readouterr().err
