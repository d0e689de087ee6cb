"""The faults: each is a function that does the harm to a run, and says whom it hits."""

from __future__ import annotations

import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any, Final, NamedTuple

from faults.scorecard.disks import ON_DISK, OnDisk
from faults.scorecard.grounds import GROUNDS, RabbitGround, RedisGround
from faults.scorecard.harness import LEASE, PATIENCE, SLOTS, WORKERS, Run, key_of
from faults.scorecard.standbys import STANDBYS, Standby
from outwork.job import State
from support import load
from support.waiting import until
from support.workers import Running, alive, descendants, send

ALL: Final = ("sqlite", "postgresql", "mysql", "redis", "rabbitmq")
SERVERS: Final = ALL[1:]
AHEAD: Final = 2
"""So many jobs of this load are claimed beyond the free slots, at the most: 50 ms of work."""

REDELIVERY: Final = 260.0
"""RabbitMQ sends again after 3 minutes what was on its way from one delay queue to the next when a node died."""

PIPES: Final = 8
"""So many files of a worker are for its children, which it starts when they are first needed."""


class Row(NamedTuple):
    """A row of the scorecard, the way to make it, and the brokers that it is for."""

    number: str
    what: str
    harm: Callable[[Run], None]
    brokers: tuple[str, ...] = ALL
    bounded: tuple[str, ...] = ()
    """Brokers that promise a bound there instead of no duplicate at all beyond what was in flight."""
    grounds: Mapping[str, type[Any]] = GROUNDS
    """What it is made on: each is a `Ground`, started in an empty folder."""


def lasts(seconds: float) -> None:
    """How long the fault lasts."""
    time.sleep(seconds)


# ---- workers ---------------------------------------------------------------------------------------------------------


def kill_workers(run: Run) -> None:
    for _ in range(10):
        victim = random.choice([running for running in run.running if running.process.poll() is None])
        run.hit()
        victim.kill_all()
        run.start_worker()
        run.more(random.randint(5, 15))


def kill_children(run: Run) -> None:
    run.slack += PIPES
    for number in range(40):
        run.enqueue(1000 + number, load.child_work)
    for _ in range(5):
        children = until(lambda: [c for pid in run.pids() for c in descendants(pid) if alive(c)], "a child")
        run.hit(slots=1)
        send(random.choice(children), signal.SIGKILL)
        run.more(5)


def freeze_a_worker(run: Run) -> None:
    victim = run.running[0]
    run.hit()
    victim.signal_all(signal.SIGSTOP)
    run.bound += run.unreported(victim.worker_pids())
    lasts(3 * LEASE)
    victim.signal_all(signal.SIGCONT)


def deploy(run: Run) -> None:
    """Ten times: a new one starts, an old one is told to stop; three of them twice."""
    for number in range(10):
        victim = next(running for running in run.running if running.process.poll() is None)
        run.start_worker().ready()
        victim.descendants()
        victim.signal(signal.SIGTERM)
        if number in (2, 5, 8):
            run.hit()
            lasts(0.05)
            if victim.process.poll() is None:
                victim.signal(signal.SIGTERM)
        code = victim.wait(PATIENCE)
        assert code == 0, f"exit code {code}\n{victim.text()}"


def rolling_restart(run: Run) -> None:
    """SIGHUP renews the processes of each worker, one by one, in the middle of a burst; the new ones work."""
    for number, running in enumerate(list(run.running), 1):
        old = set(running.worker_pids())
        run.burst(3000 + 200 * number, 100)
        running.signal(signal.SIGHUP)
        until(partial(_renewed, running, old), "a new process", seconds=60)
        run.burst(3100 + 200 * number, 100)
        run.all_work(running.worker_pids())


def _renewed(running: Running, old: set[int]) -> bool:
    new = set(running.worker_pids())
    return bool(new) and not old & new


def poison(run: Run) -> None:
    """One after the other: of two that are in hand together, the death of one counts for both. So the next one comes
    when the one before it is buried: until then the worker that it kills may still take it."""
    deaths: tuple[load.Death, ...] = ("exit", "segv", "memory")
    for number, how in enumerate(deaths, 1):
        job = load.poison.using(priority=1 if run.ground.keeps else 0).enqueue(key := f"poison-{how}", how)
        run.hit(4)
        until(partial(lambda k: run.ledger.count("S", k) >= 4, key), f"four starts of {key}", seconds=PATIENCE)
        if run.ground.keeps:
            until(partial(lambda j: run.state(j) is State.FAILED, job), "its burial", seconds=60)
        elif isinstance(run.ground, RabbitGround):
            until(partial(lambda n, ground: ground.dead_letters() == n, number, run.ground), "its burial", seconds=60)
        assert run.ledger.count("S", key) == 4


def kill_supervisor(run: Run) -> None:
    """Its process lets its jobs end, and goes; nobody replaces it but the operator."""
    victim = run.running[0]
    below = victim.descendants()
    run.hit()
    send(victim.pid, signal.SIGKILL)
    until(lambda: not any(map(alive, below)), "the end of its processes", seconds=60)
    run.start_worker()


def kill_everything(run: Run) -> None:
    """All processes of ours, on a broker that has no other."""
    run.hit(WORKERS)
    for running in run.running:
        running.kill_all()
    for _ in range(WORKERS):
        run.start_worker()


def starve(run: Run) -> None:
    """A task in a thread holds the interpreter's lock for two leases; whoever takes it then is starved as well."""
    run.starved = True
    job = load.greedy.enqueue("greedy", 2 * LEASE)
    until(lambda: run.ledger.count("E", "greedy"), "its end", seconds=PATIENCE)
    if run.ground.keeps:  # SUCCESSFUL, or FAILED: "its worker died 4 times"
        until(lambda: (state := run.state(job)) is not None and state.finished, "its last end", seconds=PATIENCE)
    until(lambda: "greedy" not in run.ledger.in_flight(), "the end of all that it started", seconds=PATIENCE)
    run.hit(run.ledger.count("S", "greedy"), SLOTS + AHEAD)


def starve_a_child(run: Run) -> None:
    load.greedy_child.enqueue("greedy", 2 * LEASE)
    until(lambda: run.ledger.count("E", "greedy"), "its end", seconds=PATIENCE)
    assert run.ledger.count("S", "greedy") == 1


def block_the_loop(run: Run) -> None:
    load.rude.enqueue("rude", 3 * LEASE)
    until(lambda: run.ledger.count("E", "rude"), "its end", seconds=PATIENCE)
    assert run.ledger.count("S", "rude") == 1


def eight_workers(run: Run) -> None:
    """All of them have a part in it."""
    for _ in range(8 - WORKERS):
        run.start_worker()
    for running in run.running:
        running.ready()
    run.burst(3000, 400)
    assert len(run.pids()) == 8
    run.all_work(run.pids())
    run.more(run.jobs)


def many_producers(run: Run) -> None:
    """16 threads, and 500 coroutines of one loop, at once."""
    import asyncio

    def from_a_thread(first: int) -> None:
        run.burst(first, 10)

    async def from_coroutines() -> None:
        await asyncio.gather(*(run.aenqueue(2000 + number) for number in range(500)))

    threads = [threading.Thread(target=from_a_thread, args=(1000 + 10 * number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    asyncio.run(from_coroutines())
    for thread in threads:
        thread.join(PATIENCE)
    numbers = [*range(1000, 1160), *range(2000, 2500)]
    assert {key_of(number) for number in numbers} <= set(run.ids), "each was acknowledged"


# ---- the network -----------------------------------------------------------------------------------------------------


def eat_confirmations(run: Run) -> None:
    """Replies to the producer."""
    proxy = run.proxies[-1]
    for number in range(1, 21):
        proxy.eat_replies(1)
        if run.producing():
            until(partial(lambda n: proxy.eaten >= n or not run.producing(), number), "a reply eaten")
    proxy.eat_replies(0)
    if not run.app.broker.capabilities.idempotent:
        run.hit(1, proxy.eaten)  # what was sent again may be there twice


def eat_answers(run: Run) -> None:
    """Replies to the workers: each settles and claims."""
    for _ in range(5):
        for proxy in run.proxies[:-1]:
            proxy.eat_replies(1)
            if not run.app.broker.capabilities.idempotent:
                run.hit()  # a channel that is lost takes what it has in hand along
        run.more(10)
    for proxy in run.proxies[:-1]:
        proxy.eat_replies(0)


def kill_connections(run: Run) -> None:
    for _ in range(4):
        run.hit(WORKERS)
        run.ground.kill_connections()
        lasts(2.0)


def partition(run: Run) -> None:
    """One worker is cut off, without a word; its connections stay. It goes on with what it had taken ahead."""
    run.hit(slots=SLOTS + AHEAD)
    run.proxies[0].freeze()
    lasts(3 * LEASE)
    run.proxies[0].freeze(False)


def freeze_the_server(run: Run) -> None:
    run.hit(WORKERS, SLOTS + AHEAD)
    run.ground.freeze()
    try:
        lasts(3 * LEASE)
    finally:
        run.ground.freeze(False)


# ---- servers ---------------------------------------------------------------------------------------------------------


def restart(run: Run) -> None:
    run.hit(WORKERS)
    run.ground.stop()
    run.ground.start()


def crash(run: Run) -> None:
    if run.ground.port is None:
        kill_everything(run)
        return
    run.hit(WORKERS)
    if isinstance(run.ground, RabbitGround):
        run.patience = REDELIVERY
    run.ground.kill()
    run.ground.start()


def fail_over(run: Run) -> None:
    ground = run.ground
    assert isinstance(ground, Standby)
    run.hit(WORKERS)
    if isinstance(ground, RabbitGround):
        run.patience = REDELIVERY
    ground.fail_over()


def full_disk(run: Run) -> None:
    """Not a byte is left until an enqueue has been refused for that, and a while longer. RabbitMQ stores no
    acknowledgement meanwhile, and says so to nobody."""
    ground = run.ground
    assert isinstance(ground, OnDisk)
    run.hit(WORKERS)
    ended = run.ends()
    ground.disk.fill()
    try:
        until(lambda: not run.accepts(load.heavy.bind(secrets.token_hex(200_000))), "a refusal", seconds=60)
        lasts(2.0)
    finally:
        ground.disk.free()
        if ground.revive():
            run.hit(WORKERS)  # the end of the server is a fault of its own
            run.bound += 0 if ground.keeps else run.ends() - ended


def out_of_memory(run: Run) -> None:
    ground = run.ground
    assert isinstance(ground, RedisGround | RabbitGround)
    before = run.ledger.count("E")
    ground.memory(1)
    try:
        until(lambda: run.ledger.count("E") >= min(before + 50, run.jobs // 2), "work that goes on", seconds=60)
    finally:
        ground.memory(0)


def long_transaction(run: Run) -> None:
    """A snapshot is held until all is done, and the throughput is what it was."""
    with closing(run.ground.snapshot()):
        run.more(run.jobs)
        run.at_full_speed()


def backlog(run: Run) -> None:
    """100,000 delayed jobs and 100,000 that nobody here serves."""
    memory = run.memory()
    for call in (load.pulse.using(run_after=86_400), load.pulse.using(queue_name="elsewhere")):
        run.app.enqueue_many(call.bind(0.0) for _ in range(100_000))
    run.rest = None
    run.more(run.jobs)
    grown = run.memory() - memory
    assert grown < 20 * WORKERS * 1024, f"the workers have grown by {grown} KB"


def step_the_clock(run: Run) -> None:
    """SQLite has no clock but the host's: due times are wrong as long as that is, leases are not."""
    for offset in (3600, -3600, 0):
        new = run.clock.with_suffix(".new")
        new.write_text(str(offset))
        os.replace(new, run.clock)
        run.more(40)


ROWS: Final = (
    Row("1", "a worker is killed (SIGKILL), ten times", kill_workers),
    Row("2", "a pool child is killed, five times", kill_children),
    Row("3", "a worker stands still for three leases (SIGSTOP), and goes on", freeze_a_worker),
    Row("4", "ten deployments (SIGTERM), three of them in haste (twice)", deploy),
    Row("5", "three tasks that kill their worker: `os._exit`, SIGSEGV, too much memory", poison),
    Row("6", "twenty replies to `enqueue` are lost", eat_confirmations, SERVERS, bounded=("rabbitmq",)),
    Row("7, 8", "ten replies to a worker are lost (one exchange claims and settles)", eat_answers, SERVERS),
    Row("9", "all connections are ended every 2 s", kill_connections, SERVERS),
    Row("10", "a worker is cut off for three leases, its connections stay", partition, SERVERS),
    Row("10b", "the server stands still for three leases", freeze_the_server, SERVERS),
    Row("11", "the server is restarted", restart, SERVERS),
    Row("12", "the server is killed, and recovers (SQLite: all of ours are)", crash, bounded=("rabbitmq",)),
    Row("13", "the server dies, and its standby takes over", fail_over, tuple(STANDBYS), grounds=STANDBYS),
    Row(
        "14",
        "no byte is left on the disk for a while (a server that ends for it is started again)",
        full_disk,
        grounds=ON_DISK,
        bounded=("rabbitmq",),
    ),
    Row("15", "the server is out of memory for a while", out_of_memory, ("redis", "rabbitmq")),
    Row("16", "the clock of the workers is one hour fast, slow, and right again", step_the_clock, bounded=("sqlite",)),
    Row("17", "a task holds the interpreter's lock for two leases, in a thread", starve, bounded=ALL),
    Row("17b", 'the same with `executor="process"`', starve_a_child),
    Row("18", "a transaction keeps its snapshot all the while", long_transaction, ("sqlite", "postgresql", "mysql")),
    Row("21", "100,000 delayed jobs and 100,000 of a queue that nobody serves", backlog),
    Row("23", "the supervisor is killed", kill_supervisor),
    Row("24", "a task blocks the event loop for three leases", block_the_loop),
    Row("25", "a rolling restart (SIGHUP)", rolling_restart),
    Row("26", "eight workers on one queue", eight_workers),
    Row("27", "16 threads and 500 coroutines enqueue at once", many_producers),
)
BY_NUMBER: Final = {row.number: row for row in ROWS}
