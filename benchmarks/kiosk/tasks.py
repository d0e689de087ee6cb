"""Its tasks: those of `benchmarks.workload`, as Django has them."""

from __future__ import annotations

from benchmarks import workload
from outwork.contrib.django import task


@task(queue_name="bench")
def noop(number: int, text: str) -> int:
    return workload.noop(number, text)


@task(queue_name="bench")
def stamp() -> float:
    return workload.stamp()
