"""CPU-bound tasks on threads and in two child processes: python -m benchmarks.isolation"""

from __future__ import annotations

from benchmarks.burning import processes, threads
from benchmarks.measuring import milliseconds
from benchmarks.options import options
from benchmarks.results import recording
from outwork import Outwork

SIZE = 3_000_000


def seconds(app: Outwork, jobs: int) -> float:
    """How long so many jobs take, the children being there already."""
    task = app.tasks["bench.burn"]

    def run(size: int, count: int) -> None:
        for result in [task.enqueue(size) for _ in range(count)]:
            result.get(120)

    run(10, 2)
    return milliseconds(lambda: run(SIZE, jobs)) / 1000


def main() -> None:
    given = options(__doc__, jobs=(8, 2), rounds=(3, 1))
    with recording("isolation", quick=given.quick) as run:
        for _ in range(given.rounds):
            for name, app in (("two threads", threads), ("two child processes", processes)):
                run.add(name, "CPU-bound jobs", "s", seconds(app, given.jobs))
                run.fact(name, "jobs", f"{given.jobs}")
    threads.close()
    processes.close()


if __name__ == "__main__":
    main()
