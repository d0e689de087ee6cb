"""Several faults at once: a seeded storm over real workers and producers, and what the ledger says after it.

What is thrown, at whom, when and for how long is drawn from the seed; what the processes make of it is chance. Once it
is over nothing is enqueued and no healthy worker is restarted: what recovers does so by itself.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Final, NamedTuple

from faults.scorecard.grounds import Ground
from outwork import Outwork
from outwork.brokers.base import Filter
from outwork.job import Record
from support.ledger import Ledger
from support.proxy import Proxy
from support.waiting import until
from support.workers import Running, Workers, alive, descendants, send, workers_in

TARGET: Final = "support.storm"
LEASE: Final = 3.0
WORKERS: Final = 3
SLOTS: Final = 4
PRODUCERS: Final = 2
GAP: Final = 0.9
"""Seconds between two faults, on average; many last longer."""
PATIENCE: Final = 300.0
"""Seconds. RabbitMQ may keep a delayed message for three minutes after a death of its own."""
SLACK: Final = 16
"""So many files and threads a worker may have more than before: pipes of children, what is made when first needed."""


class Gust(NamedTuple):
    """A fault, and the worker that it hit (None: all)."""

    what: str
    place: int | None
    began: float
    over: float


class Sea(NamedTuple):
    """A server, and an empty place on it."""

    ground: Ground
    url: str


class Storm:
    """One storm over one broker: the first server has the jobs, a second one is its store."""

    def __init__(
        self, seas: Sequence[Sea], folder: Path, ledger: Ledger, environ: dict[str, str], seed: int, inside: ExitStack
    ) -> None:
        self.grounds = grounds = [ground for ground, _ in seas]
        self.keeps = any(ground.keeps for ground in grounds)
        self.ledger = ledger
        self.restarts = True
        self.gusts: list[Gust] = []
        self._urls = [url for _, url in seas]
        self._folder = folder
        self._environ = environ
        self.began = time.monotonic()
        """When the first fault came."""
        self._chance = random.Random(seed)
        self._inside = inside
        self._locks: dict[object, threading.Lock] = defaultdict(threading.Lock)
        self._errors: list[BaseException] = []
        self._proxies = [
            [inside.enter_context(Proxy(ground.port)) if ground.port else None for ground in grounds]
            for _ in range(WORKERS + 1)
        ]
        """By worker, the last ones are those of the producers; each has one to every server."""
        self._workers = [self._room(place) for place in range(WORKERS)]
        self.running: list[Running] = []
        self._producers: list[subprocess.Popen[bytes]] = []
        inside.callback(self._end_producers)
        self._names = itertools.count()
        self._stop = folder / "stop"
        self.observer = Outwork(self._urls[0], store_url=self._urls[1] if len(seas) > 1 else "")
        inside.callback(self.observer.close)

    # ---- processes ----

    def _addresses(self, place: int) -> list[str]:
        """The URLs of broker and store, through the proxies of this place."""
        found: list[str] = []
        for url, ground, proxy in zip(self._urls, self.grounds, self._proxies[place], strict=True):
            for mark in "/?":
                if proxy is not None:
                    url = url.replace(f":{ground.port}{mark}", f":{proxy.port}{mark}")
            found.append(url)
        return found

    def _room(self, place: int) -> Workers:
        folder = self._folder / f"place-{place}"
        folder.mkdir()
        url, *store = self._addresses(place)
        (folder / "shop.toml").write_text("".join(f'store_url = "{one}"\n' for one in store))
        return self._inside.enter_context(workers_in(folder, url, self._environ))

    def start_worker(self, place: int) -> Running:
        return self._workers[place].start(
            "--config",
            "shop.toml",
            "--worker-id",
            f"place{place}",
            "--concurrency",
            str(SLOTS),
            "--children",
            "2",
            TARGET,
        )

    def start_producer(self) -> subprocess.Popen[bytes]:
        url, *store = self._addresses(WORKERS)
        name = f"p{next(self._names)}"
        words = [
            "-m",
            "support.storm_producer",
            url,
            *(store or [""]),
            name,
            str(self._stop),
            str(self._chance.random())[2:],
        ]
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *words], env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _end_producers(self) -> None:
        for producer in self._producers:
            producer.kill()
            producer.wait()

    def begin(self) -> None:
        self.running = [self.start_worker(place) for place in range(WORKERS)]
        self._producers = [self.start_producer() for _ in range(PRODUCERS)]
        for running in self.running:
            running.ready()
        until(lambda: self.ledger.count("E") >= 20, "the end of some jobs")
        self.before = self._files(), self._threads()

    # ---- the weather ----

    def faults(self) -> list[Callable[[random.Random], None]]:
        found: list[Callable[[random.Random], None]] = [
            self.kill_worker,
            self.kill_all,
            self.kill_supervisor,
            self.kill_child,
            self.freeze_worker,
        ]
        found += [self.replace_worker, self.kill_producer]
        if self.grounds[0].port is not None:
            found += [self.end_connections, self.eat_replies, self.cut, self.part, self.slow, self.refuse]
            found += [self.freeze_server]
            found += [self.restart_server] if self.restarts else []
        return found

    def blow(self, seconds: float) -> None:
        """Each kind of fault in its turn, in an order that chance has shuffled; those that last overlap."""
        deck: list[Callable[[random.Random], None]] = []
        blowing: list[threading.Thread] = []
        self.began = time.monotonic()
        over = self.began + seconds
        while time.monotonic() < over:
            if not deck:
                deck = self.faults()
                self._chance.shuffle(deck)
            thread = threading.Thread(target=self._suffer, args=(deck.pop(), self._chance.getrandbits(32)))
            thread.start()
            blowing.append(thread)
            time.sleep(min(self._chance.expovariate(1 / GAP), 3 * GAP))
        for thread in blowing:
            thread.join(PATIENCE)
        if self._errors:
            raise self._errors[0]

    def _suffer(self, fault: Callable[[random.Random], None], seed: int) -> None:
        try:
            fault(random.Random(seed))
        except BaseException as error:  # noqa: BLE001  raised by `blow`
            self._errors.append(error)

    @contextmanager
    def _gust(self, what: str, place: int | None = None) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.gusts.append(Gust(what, place, began, time.monotonic()))

    @contextmanager
    def _victim(self, chance: random.Random) -> Iterator[tuple[int, Running]]:
        """A worker that nobody else is at."""
        place = chance.randrange(WORKERS)
        with self._locks[place]:
            yield place, self.running[place]

    def kill_worker(self, chance: random.Random) -> None:
        """Its supervisor starts it anew."""
        with self._victim(chance) as (place, running), self._gust("worker killed", place):
            for pid in running.worker_pids():
                send(pid, SIGKILL)

    def kill_all(self, chance: random.Random) -> None:
        with self._victim(chance) as (place, running), self._gust("worker and supervisor killed", place):
            running.kill_all()
            self.running[place] = self.start_worker(place)

    def kill_supervisor(self, chance: random.Random) -> None:
        """What was below it ends by itself, while its successor works."""
        with self._victim(chance) as (place, running), self._gust("supervisor killed", place):
            running.descendants()
            send(running.pid, SIGKILL)
            self.running[place] = self.start_worker(place)
            running.process.wait(PATIENCE)

    def kill_child(self, chance: random.Random) -> None:
        with self._victim(chance) as (place, running), self._gust("child killed", place):
            children = [pid for worker in running.worker_pids() for pid in descendants(worker) if alive(pid)]
            if children:
                send(chance.choice(children), SIGKILL)

    def freeze_worker(self, chance: random.Random) -> None:
        with self._victim(chance) as (place, running), self._gust("worker frozen", place):
            pids = [*([running.pid] if chance.random() < 0.5 else []), *running.descendants()]
            for pid in pids:
                send(pid, SIGSTOP)
            time.sleep(chance.uniform(0.5, 2.5) * LEASE)
            for pid in pids:
                send(pid, SIGCONT)

    def replace_worker(self, chance: random.Random) -> None:
        """Nothing may be run twice for that."""
        with self._victim(chance) as (place, running):
            running.descendants()
            self.running[place] = self.start_worker(place)
            running.signal(SIGTERM)
            if chance.random() < 0.3:
                with self._gust("SIGTERM twice", place):
                    time.sleep(chance.uniform(0.0, 0.1))
                    running.process.send_signal(SIGTERM)

    def kill_producer(self, chance: random.Random) -> None:
        number = chance.randrange(PRODUCERS)
        with self._locks["producer"]:
            self._producers[number].kill()
            self._producers[number].wait()
            self._producers[number] = self.start_producer()

    def _proxy(self, chance: random.Random) -> tuple[int | None, Proxy]:
        """A worker's or the producers' way to a server."""
        place = chance.randrange(WORKERS + 1)
        proxy = chance.choice([one for one in self._proxies[place] if one is not None])
        return place, proxy

    def eat_replies(self, chance: random.Random) -> None:
        place, proxy = self._proxy(chance)
        with self._gust("replies eaten", place):
            proxy.eat_replies(chance.randint(1, 4))
            time.sleep(chance.uniform(0.5, 2.0))
            proxy.eat_replies(0)

    def cut(self, chance: random.Random) -> None:
        place, proxy = self._proxy(chance)
        with self._gust("cut", place):
            proxy.cut()

    def part(self, chance: random.Random) -> None:
        place, proxy = self._proxy(chance)
        with self._gust("cut off in silence", place):
            proxy.freeze()
            time.sleep(chance.uniform(0.2, 2.0) * LEASE)
            proxy.freeze(False)

    def slow(self, chance: random.Random) -> None:
        place, proxy = self._proxy(chance)
        with self._gust("slow", place):
            proxy.delay = chance.uniform(0.01, 0.3)
            time.sleep(chance.uniform(0.5, 4.0))
            proxy.delay = 0.0

    def refuse(self, chance: random.Random) -> None:
        place, proxy = self._proxy(chance)
        with self._gust("refused", place):
            proxy.refuse()
            time.sleep(chance.uniform(0.2, 4.0))
            proxy.refuse(False)

    @contextmanager
    def _server(self, chance: random.Random, what: str) -> Iterator[Ground]:
        """A server that nobody else is at."""
        ground = chance.choice([one for one in self.grounds if one.port is not None])
        with self._locks[ground], self._gust(f"{ground.name} {what}"):
            yield ground

    def end_connections(self, chance: random.Random) -> None:
        with self._server(chance, "ended all connections") as ground:
            ground.kill_connections()

    def freeze_server(self, chance: random.Random) -> None:
        with self._server(chance, "frozen") as ground:
            ground.freeze()
            time.sleep(chance.uniform(0.2, 2.0) * LEASE)
            ground.freeze(False)

    def restart_server(self, chance: random.Random) -> None:
        """By a kill, where that loses nothing that was accepted."""
        kill = chance.random() < 0.5
        with self._server(chance, "restarted") as ground:
            ground.kill() if kill and ground.keeps else ground.stop()
            time.sleep(chance.uniform(0.0, 2.0))
            ground.start()

    # ---- afterwards ----

    def heal(self) -> None:
        """No fault any more, and no traffic."""
        self._stop.touch()
        for producer in self._producers:
            code = producer.wait(PATIENCE)
            assert code == 0, f"a producer ended with {code}: {self._logs('p')}"
        self.healed = time.monotonic()

    def _logs(self, prefix: str) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self._folder.glob(f"{prefix}*.log"))

    def left(self, rest: int) -> dict[str, int]:
        """What has not ended, and what servers have beside records, if it is more than `rest`."""
        found: Counter[str] = Counter()
        if self.keeps:
            for count in self.observer.store.counts():
                if not count.state.finished:
                    found[count.state] += count.jobs
        else:
            found["no end"] = len(self._open())
        for ground in self.grounds:
            if (more := ground.at_rest()) > rest:
                found[f"rest in {ground.name}"] = more
        return dict(+found)

    def _open(self) -> set[str]:
        ended = set(self.ledger.keys("E"))
        return {key for key in self.ledger.keys("K") if key not in ended and not key.startswith("once:")}

    def _histories(self) -> str:
        """What the ledger says of each job that has no end, in seconds since the first fault."""
        open_ = self._open()
        found: defaultdict[str, list[str]] = defaultdict(list)
        for entry in self.ledger.entries():
            if entry.key in open_:
                found[entry.key].append(f"{entry.at - self.began:.2f} {entry.event} {entry.note}")
        return "\n".join(f"{key}: {', '.join(lines)}" for key, lines in sorted(found.items()))

    def drain(self, rest: int) -> None:
        """Wait until all has ended, and until no more than `rest` is left beside the records."""
        try:
            until(lambda: not self.left(rest), "the end of all", seconds=PATIENCE, pause=0.25)
        except AssertionError as error:
            open_ = [one for one in self.records().values() if not one.state.finished] or self._histories()
            looks = "\n".join(ground.look() for ground in self.grounds)
            raise AssertionError(f"{error}\n{self.left(rest)}\n{open_}\n{looks}") from None
        last = max((entry.at for entry in self.ledger.entries() if entry.event == "E"), default=self.healed)
        self.seconds = max(0.0, last - self.healed)
        files, threads = self.before
        until(lambda: self._files() <= files + SLACK, f"no more than {files + SLACK} files and connections", seconds=60)
        until(lambda: self._threads() <= threads + SLACK, f"no more than {threads + SLACK} threads", seconds=60)

    def _pids(self) -> list[int]:
        return [pid for running in self.running for pid in running.worker_pids()]

    def _files(self) -> float:
        return self._mean("fd")

    def _threads(self) -> float:
        return self._mean("task")

    def _mean(self, folder: str) -> float:
        pids = self._pids()
        return sum(sum(1 for _ in Path(f"/proc/{pid}/{folder}").iterdir()) for pid in pids) / max(1, len(pids))

    def records(self) -> dict[str, Record]:
        if not self.keeps:
            return {}
        found = self.observer.store.find(Filter(), 100_000).records
        return {record.id: record for record in found}
