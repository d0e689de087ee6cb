"""CPU-bound tasks on threads and in two child processes: `python -m benchmarks.isolation`."""

from __future__ import annotations

import time

from benchmarks.burning import processes, threads
from outwork import Outwork

SIZE = 3_000_000
JOBS = 8


def seconds(app: Outwork) -> float:
    """How long the jobs take, the children being there already."""
    task = app.tasks["bench.burn"]
    for result in [task.enqueue(10) for _ in range(2)]:
        result.get(30)
    began = time.perf_counter()
    for result in [task.enqueue(SIZE) for _ in range(JOBS)]:
        result.get(120)
    return time.perf_counter() - began


def main() -> None:
    alone = seconds(threads)
    apart = seconds(processes)
    print(f"{JOBS} CPU-bound jobs on two threads         {alone:>7.2f} s")
    print(f"{JOBS} CPU-bound jobs in two child processes {apart:>7.2f} s   ({alone / apart:.1f} times as fast)")
    threads.close()
    processes.close()


if __name__ == "__main__":
    main()
