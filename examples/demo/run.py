"""The main job, on a SQLite file: a web application enqueues, a worker runs, somebody kills it, another one finishes.

python examples/demo/run.py [orders]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import outwork
from outwork import State

HERE: Final = Path(__file__).parent
WAITING: Final = (State.READY, State.SCHEDULED, State.RUNNING)
BAR: Final = 40
PATIENCE: Final = 90.0


def main() -> int:
    orders = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    began = monotonic()
    with tempfile.TemporaryDirectory(prefix="outwork-demo-") as folder:
        os.environ["OUTWORK_BROKER_URL"] = f"sqlite:///{folder}/tasks.db"
        os.environ["OUTBOX"] = f"{folder}/outbox.txt"
        print(f"jobs are kept in {folder}/tasks.db")
        shop = [sys.executable, str(HERE / "shop.py"), str(orders)]
        first_id = subprocess.run(shop, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        print(f"the shop answered {orders} requests in {monotonic() - began:.1f} s; their receipts wait")

        worker = start_worker(folder)
        watch(orders, until=orders * 2 // 5)
        in_flight = count().get(State.RUNNING, 0)
        kill(worker)
        say(f"kill -9 of the worker, with {in_flight} jobs in hand; a second worker starts")
        worker = start_worker(folder)
        watch(orders, until=orders)
        worker.terminate()
        say(f"the second worker stopped, exit code {worker.wait(30)}")
        return judge(orders, first_id, Path(folder, "outbox.txt"), monotonic() - began)


def start_worker(folder: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "outwork", "worker", "tasks", "--concurrency", "4"]
    with open(f"{folder}/worker.log", "ab") as log:
        return subprocess.Popen(command, cwd=HERE, stderr=log)


def kill(worker: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the supervisor and its worker process: nothing of it can say goodbye."""
    pids = [presence.pid for presence in outwork.default_app.broker.workers()]
    for pid in (worker.pid, *pids):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    worker.wait()


def count() -> Counter[State]:
    """How many jobs are in each state."""
    totals: Counter[State] = Counter()
    for one in outwork.default_app.store.counts():
        totals[one.state] += one.jobs
    return totals


def watch(orders: int, until: int) -> None:
    """Show how many jobs have ended, until so many have."""
    deadline = monotonic() + PATIENCE
    shown = -1
    while True:
        totals = count()
        ended = orders - sum(totals[state] for state in WAITING)
        if sys.stdout.isatty():
            filled = BAR * ended // orders
            print(f"\r[{'#' * filled}{'.' * (BAR - filled)}] {ended}/{orders}", end="", flush=True)
        elif ended * 5 // orders > shown:
            shown = ended * 5 // orders
            print(f"{ended} of {orders} done, {totals[State.SCHEDULED]} wait for a retry", flush=True)
        if ended >= until:
            return
        if monotonic() > deadline:
            sys.exit(f"\nafter {PATIENCE:.0f} s only {ended} of {orders} jobs have ended")
        sleep(0.1)


def say(text: str) -> None:
    print(f"\n{text}" if sys.stdout.isatty() else text, flush=True)


def judge(orders: int, first_id: str, outbox: Path, seconds: float) -> int:
    """Read a result back, and say whether every order has its receipt."""
    print(f"the result of the first job: {outwork.get_result(first_id).return_value!r}")
    sent = Counter(int(line) for line in outbox.read_text().split())
    twice = sum(times > 1 for times in sent.values())
    complete = set(sent) == set(range(1, orders + 1)) and count() == {State.SUCCESSFUL: orders}
    print(f"{count()[State.SUCCESSFUL]} of {orders} jobs successful, {orders // 10} of them after a retry")
    print(f"receipts: {len(sent)} orders, {twice} sent twice because of the kill, {orders - len(sent)} lost")
    print(f"{'all is well' if complete else 'SOMETHING IS WRONG'} ({seconds:.1f} s)")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
