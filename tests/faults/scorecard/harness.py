"""The standard load, a fault in the midst of it, and what the ledger says afterwards.

300 jobs of 20 to 200 ms: a third of them delayed, one in ten failing once, every fourth a coroutine; two workers of
four slots. A lease lasts 3 s. 200 jobs wait when the fault comes, the others are enqueued one by one during it, and
nothing is enqueued after it: what recovers does so by itself.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from faults.scorecard.grounds import Ground
from faults.scorecard.replay import replay
from outwork import Call, Outwork, Task, TaskResult
from outwork.errors import OutworkError
from outwork.job import Record, State
from support import ledger as books
from support import load
from support.ledger import Entry, Ledger
from support.proxy import Proxy
from support.waiting import until
from support.workers import Running, Workers, workers_in

TARGET: Final = "support.load"
LEASE: Final = 3.0
SLOTS: Final = 4
WORKERS: Final = 2
PATIENCE: Final = 100.0
SLACK: Final = 5
"""So many files and threads a worker may have more than before: some are made only when they are first needed."""


Kind: TypeAlias = Task[[str, float, bool], None]


class Before(NamedTuple):
    """How it was before the fault; files and threads are those of one worker."""

    files: float
    threads: float
    seconds: float


class Verdict(NamedTuple):
    """What one cell of the scorecard says. `bound`: what was in flight at the faults at the most."""

    lost: int
    unexpected: int
    resurrected: int
    twice: int
    bound: int
    recovered: int
    untrue: int
    early: int
    seconds: float
    replayed: int
    again: dict[str, list[tuple[str, float, int]]]
    """What the ledger has of the jobs that ended more than once: event, seconds of the monotonic clock, process."""


class Run:
    """One load on one broker."""

    def __init__(self, ground: Ground, folder: Path, ledger: Ledger, workers: Workers, inside: ExitStack) -> None:
        self.ground = ground
        self.folder = folder
        self.ledger = ledger
        self.workers = workers
        self.running: list[Running] = []
        self.bound = 0
        self.jobs = 0
        self.before = Before(0.0, 0.0, 0.0)
        self.slack = SLACK
        self.patience = PATIENCE
        self.clock = folder / "clock"
        """Has the seconds by which the clock of the workers is wrong, where a row changes it."""
        self.own_clock = False
        """Whether due times follow the clock of the workers, so that nothing can be said of them."""
        self.starved = False
        """Whether a worker may start a job, fenced, that it has lost without having had the time to see that."""
        self.rest: int | None = 0
        """What the broker may have left at the end; None: the row leaves something there."""
        self._direct = ground.url()
        self.proxies: list[Proxy] = []
        if ground.port is not None:
            self.proxies = [inside.enter_context(Proxy(ground.port)) for _ in range(WORKERS + 1)]
        """One for each worker (what is started later has the last worker's), the last one for the producer."""
        self.app = load.app
        self.app.override({"broker_url": self._through(WORKERS)})
        inside.callback(self.app.close)
        self._observer = Outwork(self._direct)
        inside.callback(self._observer.close)
        self.ids: dict[str, str] = {}
        self._names: list[str] = []
        self._over = threading.Event()
        self._producer = threading.Thread(target=self._produce, daemon=True)
        inside.callback(self._end_traffic)

    def _through(self, number: int) -> str:
        if not self.proxies:
            return self._direct
        return self._direct.replace(f":{self.ground.port}/", f":{self.proxies[number].port}/").replace(
            f":{self.ground.port}?", f":{self.proxies[number].port}?"
        )

    # ---- workers ----

    def start_worker(self, *words: str) -> Running:
        url = self._through(min(len(self.running), WORKERS - 1))
        self.running.append(self.workers.start(TARGET, "--concurrency", str(SLOTS), *words, url=url))
        return self.running[-1]

    def hit(self, workers: int = 1, slots: int = SLOTS) -> None:
        """So many workers are hit now, each with this many jobs in hand at the most. RabbitMQ alone does not confirm an
        acknowledgement: as many may be lost on their way."""
        self.bound += workers * slots * (1 if self.ground.keeps else 2)

    def ends(self) -> int:
        return self.ledger.count("E")

    def more(self, count: int, seconds: float = PATIENCE) -> None:
        """Wait until so many more jobs have ended, or all."""
        target = self.ends() + count
        until(
            lambda: self.ends() >= target or (not self.producing() and set(self.ids) <= set(self.ledger.keys("E"))),
            f"the end of {count} jobs more",
            seconds=seconds,
        )

    # ---- the load ----

    def _job(self, number: int, kind: Kind | None) -> tuple[str, Kind, float, bool]:
        """The key, the task, how long it takes and whether it fails once. The ledger knows its delay."""
        key = key_of(number)
        kind = kind or (load.async_work if number % 4 == 0 else load.work)
        delay = random.uniform(0.5, 4.0) if number % 3 == 1 else 0.0
        books.write("A", key, str(delay))
        return (
            key,
            kind.using(run_after=delay) if delay else kind,
            random.uniform(0.02, 0.2),
            number % 10 == 0 and not self.own_clock,
        )

    def enqueue(self, number: int, kind: Kind | None = None) -> None:
        """One job of the load; a refusal is not repeated."""
        key, call, seconds, fails = self._job(number, kind)
        try:
            result = call.enqueue(key, seconds, fails)
        except OutworkError:
            return
        books.write("K", key)
        self.ids[key] = result.id

    def burst(self, first: int, count: int) -> None:
        """So many jobs of the load at once."""
        for number in range(first, first + count):
            self.enqueue(number)

    def accepts(self, call: Call[Any]) -> bool:
        """Whether the broker takes a job that is not of the load."""
        try:
            self.app.enqueue(call)
        except OutworkError:
            return False
        return True

    async def aenqueue(self, number: int) -> None:
        key, call, seconds, fails = self._job(number, load.work)
        result = await call.aenqueue(key, seconds, fails)
        books.write("K", key)
        self.ids[key] = result.id

    def producing(self) -> bool:
        return self._producer.is_alive()

    def _produce(self) -> None:
        """What is enqueued while the fault lasts: all of it, or what there is time for."""
        for number in range(self.jobs * 2 // 3, self.jobs):
            if self._over.is_set():
                return
            self.enqueue(number)
            time.sleep(0.02)

    def begin(self, jobs: int) -> None:
        self.jobs = jobs
        for number in range(jobs * 2 // 3):
            self.enqueue(number)
        self._producer.start()
        self.more(10)

    def heal(self) -> None:
        """The fault is over, and so is all traffic."""
        self._end_traffic()
        assert not self.producing(), "the producer is stuck"
        self.healed = time.monotonic()

    def _end_traffic(self) -> None:
        self._over.set()
        if self.producing():
            self._producer.join(PATIENCE)

    # ---- what can be seen ----

    def records(self) -> dict[str, Record | None]:
        """By key, of the jobs that were acknowledged."""
        known = dict(self.ids)
        return dict(zip(known, self._observer.store.get(list(known.values())), strict=True))

    def state(self, result: TaskResult[Any]) -> State | None:
        [record] = self._observer.store.get([result.id])
        return None if record is None else record.state

    def still_open(self) -> dict[str, str]:
        """What was acknowledged and has not ended: its state, where there are records."""
        if not self.ground.keeps:
            return dict.fromkeys(set(self.ids) - set(self.ledger.keys("E")), "no end in the ledger")
        return {key: one.state for key, one in self.records().items() if one is not None and not one.state.finished}

    def unreported(self, pids: Iterable[int]) -> int:
        """How many jobs these processes have ended, as the ledger says, and the broker's records do not say so yet."""
        if not self.ground.keeps:
            return 0  # its bound is twice as high for that
        workers = set(pids)
        ended = {entry.key for entry in self.ledger.entries() if entry.event == "E" and entry.pid in workers}
        return len(ended & self.still_open().keys())

    def all_work(self, pids: Iterable[int]) -> None:
        """Wait until each of these processes has ended a job."""
        wanted = set(pids)
        until(
            lambda: wanted <= {entry.pid for entry in self.ledger.entries() if entry.event == "E"},
            "work of each",
            seconds=60,
        )

    def all_end(self) -> None:
        """Wait for the end of all jobs; says which have none."""
        try:
            until(lambda: not self.still_open(), "the end of all jobs", seconds=self.patience, pause=0.1)
        except AssertionError as error:
            missing = self.still_open()
            told = [entry for entry in self.ledger.entries() if entry.key in missing]
            raise AssertionError(
                f"{error}\n{missing}\n{told}\n{self.ground.look()}\n" + "\n".join(r.text() for r in self.running)
            ) from None

    def failed(self) -> set[str]:
        """What has ended, and not well."""
        if not self.ground.keeps:
            return set()
        return {key for key, record in self.records().items() if record and record.state is State.FAILED}

    def pids(self) -> list[int]:
        return [pid for running in self.running if running.process.poll() is None for pid in running.worker_pids()]

    def files(self) -> float:
        """Open files, sockets among them, of a worker process."""
        return self._mean("fd")

    def threads(self) -> float:
        return self._mean("task")

    def open_files(self) -> list[list[str]]:
        """What each worker has open."""
        return [sorted(os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()) for pid in self.pids()]

    def memory(self) -> int:
        """What all worker processes have in memory, in KB."""
        return sum(int(line.split()[1]) for pid in self.pids() for line in _status(pid) if line.startswith("VmRSS"))

    def _mean(self, folder: str) -> float:
        pids = self.pids()
        return sum(sum(1 for _ in Path(f"/proc/{pid}/{folder}").iterdir()) for pid in pids) / max(1, len(pids))

    def pulse(self) -> float:
        """How long all slots need for five rounds of 0.1 s."""
        began = time.monotonic()
        keys = {f"pulse-{began}-{number}" for number in range(WORKERS * SLOTS * 5)}
        self.app.enqueue_many(load.work.bind(key, 0.1, False) for key in keys)
        until(lambda: keys <= set(self.ledger.keys("E")), "the pulse", seconds=PATIENCE)
        return time.monotonic() - began

    def look(self) -> Before:
        """First of all delays of every length: RabbitMQ 3.10 forgets what is in a quorum queue that is younger than a
        second when its server is killed (its library ra was mended later, by its pull request 443)."""
        late = [load.work.using(run_after=units / 4).bind(f"late-{units}", 0.0, False) for units in (1, 2, 4, 8, 16)]
        for call in late:
            self.app.enqueue(call)
        until(lambda: self._late() == len(late), "delayed jobs", seconds=PATIENCE)
        seconds = min(self.pulse() for _ in range(2))
        return Before(self.files(), self.threads(), seconds)

    def _late(self) -> int:
        return sum(1 for key in self.ledger.keys("E") if key.startswith("late-"))

    # ---- verdicts ----

    def at_full_speed(self) -> None:
        """Wait for four fifths of the throughput that there was before the fault."""
        least = self.before.seconds / 0.8 + 0.5
        until(lambda: self.pulse() <= least, f"four fifths of the throughput: {least:.2f} s for a pulse", seconds=60)

    def as_before(self) -> None:
        """Throughput, connections, threads, and what the broker keeps come back to what they were."""
        self.at_full_speed()
        least = self.before.files + self.slack
        until(lambda: self.files() <= least, f"{least} files and connections, not {self.open_files()}")
        until(lambda: self.threads() <= self.before.threads + self.slack, "threads as before")
        if self.rest is not None:
            until(lambda: self.ground.at_rest() == self.rest, "no rows, keys or messages left", seconds=60, pause=0.2)

    def verdict(self) -> Verdict:
        self.all_end()
        entries = [entry for entry in self.ledger.entries() if entry.key.startswith("job-")]
        attempted = {entry.key for entry in entries if entry.event == "A"}
        acknowledged = {entry.key for entry in entries if entry.event == "K"}
        ends = {entry.key for entry in entries if entry.event == "E"}
        times = [entry.key for entry in entries if entry.event == "E"]
        last = max((entry.at for entry in entries if entry.event == "E"), default=self.healed)
        records = self.records() if self.ground.keeps else {}
        return Verdict(
            lost=len(acknowledged - ends - self.failed()),
            unexpected=len(ends - attempted),
            resurrected=0 if self.own_clock or self.starved else len(resurrected(entries, records)),
            twice=len(times) - len(ends),
            bound=self.bound,
            recovered=len(ends - acknowledged),
            untrue=len({k for k, r in records.items() if r and (r.state is State.SUCCESSFUL) != (k in ends)}),
            early=0 if self.own_clock else len(early(entries)),
            seconds=max(0.0, last - self.healed),
            replayed=sum(replay(entries, key, record) for key, record in records.items() if record is not None),
            again={
                key: [(e.event, round(e.at, 3), e.pid) for e in entries if e.key == key]
                for key in ends
                if times.count(key) > 1
            },
        )


def resurrected(entries: list[Entry], records: dict[str, Record | None]) -> set[str]:
    """What was started after its final state had been written."""
    offset = time.time() - time.monotonic()
    ended = {key: record.finished_at - offset for key, record in records.items() if record and record.finished_at}
    return {entry.key for entry in entries if entry.event == "S" and entry.at > ended.get(entry.key, entry.at) + 0.05}


def early(entries: list[Entry]) -> set[str]:
    """What was started before it was due: a delay is counted from the moment the broker has the job."""
    due = {entry.key: entry.at + float(entry.note) for entry in entries if entry.event == "A"}
    return {entry.key for entry in entries if entry.event == "S" and entry.at < due[entry.key] - 0.05}


def _status(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/status").read_text().splitlines()


@contextmanager
def prepared(ground: Ground, folder: Path, ledger: Ledger, environ: dict[str, str]) -> Iterator[Run]:
    with ExitStack() as inside:
        workers = inside.enter_context(workers_in(folder, "", environ))
        yield Run(ground, folder, ledger, workers, inside)


def key_of(number: int) -> str:
    """What the ledger calls a job of the load."""
    return f"job-{number:04}"


def score(run: Run, harm: Callable[[Run], None], jobs: int = 300) -> Verdict:
    """Start, load, do the harm, and judge."""
    for _ in range(WORKERS):
        run.start_worker()
    for running in run.running:
        running.ready()
    run.before = run.look()
    run.begin(jobs)
    harm(run)
    run.heal()
    verdict = run.verdict()
    assert verdict.replayed or not run.ground.keeps, "the state machine has been asked about nothing"
    run.as_before()
    return verdict


def judge(verdict: Verdict) -> None:
    """What must hold in each cell."""
    assert verdict.lost == 0, verdict
    assert verdict.unexpected == 0, verdict
    assert verdict.resurrected == 0, verdict
    assert verdict.untrue == 0, verdict
    assert verdict.early == 0, verdict
    assert verdict.twice <= verdict.bound, verdict
