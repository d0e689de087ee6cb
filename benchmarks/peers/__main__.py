"""Outwork beside its peers: `python -m benchmarks.peers [CONTESTANT...] [--rounds 3] [--smoke]`; `make bench-peers`.

Each contestant is a file in `contestants/`: a peer, a broker and a choice of settings, which it explains. Each peer is
installed, in its newest release, into a virtual environment of its own (`.venv-peers`, or $BENCH_PEERS_VENVS). The jobs
are no-ops with a number and a short text. Contestants named here are measured again, and the others' results are kept.

In each round every contestant has its turn, in spaces of its own on a private server whose settings all share:

- enqueue: jobs a second, one at a time, and in bulk if the peer can
- drain: jobs a second of one worker that finds them waiting, from its first job's start to its last one's
- CPU: seconds for 1,000 jobs, of producer, worker and server
- latency: from the call of an enqueue, and from its return, to the start of the job, the worker being idle
- memory of the idle worker with all its processes, what they share divided among them (PSS)

and once, after the first round:

- kill -9: the worker dies with all its processes while it is busy with jobs of 20 ms, and another one is started
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Semaphore

from benchmarks.peers.contestant import Contestant, contestants, homes
from benchmarks.peers.measure import SMOKE, Course, Failed, Sizes, Speed, course, percentile
from benchmarks.peers.spaces import Spaces
from benchmarks.results import Recorder, recording

KILLS = 2
"""Kill tests that work at a time."""
IDLE = 5.0
"""Seconds without a finished job after which a kill test only waits."""


def calibrate(its: Course, sizes: Sizes) -> Speed:
    """Find out how fast it is, roughly."""
    ones = its.enqueue("enqueue", sizes.first // 4)
    more = its.enqueue("bulk", sizes.first - ones.count) if its.one.bulk else ones
    waiting = ones.count + more.count if its.one.bulk else ones.count
    drained = its.drain(waiting, sizes.seconds, behind=0.0)
    return Speed(drained.rate, ones.rate, more.rate)


def speeds(its: Course, sizes: Sizes, speed: Speed, run: Recorder) -> None:
    """Enqueue and drain."""
    name = its.one.name
    if its.one.bulk:
        ones = its.enqueue("enqueue", sizes.ones(speed))
        more = its.enqueue("bulk", sizes.many(speed))
        run.add(name, "bulk enqueue", "jobs/s", more.rate)
        waiting = ones.count + more.count
    else:
        ones = more = its.enqueue("enqueue", max(sizes.ones(speed), sizes.many(speed)))
        waiting = ones.count
    run.add(name, "enqueue", "jobs/s", ones.rate)
    drained = its.drain(waiting, sizes.drain)
    run.add(name, "drain", "jobs/s", drained.rate)
    speed.drain = drained.rate
    if not drained.measured:
        return  # all were done before anybody could look: far too few
    parts = {
        "producer": more.cpu / more.timed,
        "worker": drained.cpu / drained.measured,
        "server": more.server / more.count + drained.server / drained.measured,
    }
    for part, seconds in parts.items():
        run.add(name, f"CPU of the {part}", "s/1,000 jobs", seconds * 1e3)
    run.add(name, "CPU", "s/1,000 jobs", sum(parts.values()) * 1e3)


def idleness(its: Course, sizes: Sizes, run: Recorder) -> None:
    """Latency and memory."""
    times, megabytes = its.idle(sizes.stamps)
    for since, values in times.items():
        name = {"called": "call", "returned": "return"}[since]
        run.add(its.one.name, f"latency from the {name}, p50", "ms", percentile(values, 50) * 1e3)
        run.add(its.one.name, f"latency from the {name}, p99", "ms", percentile(values, 99) * 1e3)
    run.add(its.one.name, "memory of the idle worker", "MB", megabytes)


class Race:
    """All contestants, turn and turn about."""

    def __init__(self, chosen: list[Contestant], sizes: Sizes, spaces: Spaces, run: Recorder) -> None:
        self._chosen, self._sizes, self._spaces, self._run = chosen, sizes, spaces, run
        self._homes = homes(chosen)
        self._speeds: dict[str, Speed] = {}
        self._busy = Semaphore(KILLS)

    def prepare(self, *, upgrade: bool) -> None:
        """Install and start what is needed, and find out how fast each is."""
        for peer, home in sorted(self._homes.items()):
            try:
                home.make(upgrade=upgrade)
            except subprocess.SubprocessError as error:
                print(f"{peer} cannot be installed: {error}", file=sys.stderr, flush=True)
                self._chosen = [one for one in self._chosen if one.peer != peer]
                continue
            for package, version in home.versions().items():
                self._run.version(package, version)
        for server, version in self._spaces.prepare({one.broker for one in self._chosen}).items():
            self._run.version(server, version)
        for one in self._chosen:
            self._run.fact(one.name, "peer", one.peer)
            self._run.fact(one.name, "broker", one.broker)
            self._run.fact(one.name, "settings", one.settings)
            self._run.fact(one.name, "acknowledges", one.acks)
            with self._course(one) as its:
                self._speeds[one.name] = calibrate(its, self._sizes)

    def round(self) -> None:
        for one in self._chosen:
            if speed := self._speeds.get(one.name):
                with self._course(one) as its:
                    speeds(its, self._sizes, speed, self._run)
            with self._course(one) as its:
                idleness(its, self._sizes, self._run)
            self._run.keep()

    def kill(self) -> None:
        with ThreadPoolExecutor(len(self._chosen)) as pool:
            list(pool.map(self._kill, self._chosen))
        self._run.keep()

    def _kill(self, one: Contestant) -> None:
        """The kill -9 of one. Only so many are at work at a time; all may wait for their lost jobs at once."""
        with ExitStack() as turn:
            turn.enter_context(self._busy)
            self._interrupted(one, turn)

    def _interrupted(self, one: Contestant, turn: ExitStack) -> None:
        with self._course(one) as its:
            killed = its.recover(
                self._sizes,
                its.interrupt(self._sizes),
                lambda idle: turn.close() if idle > IDLE else None,
            )
            run = self._run
            run.add(one.name, "kill -9: lost", "jobs", killed.lost)
            run.add(one.name, "kill -9: run twice", "jobs", killed.twice)
            run.add(one.name, "kill -9: until all were run", "s", killed.seconds)
            run.fact(one.name, "kill -9: given up after", f"{self._sizes.recovery:g} s")

    @contextmanager
    def _course(self, one: Contestant) -> Iterator[Course]:
        """A space of its own. What goes wrong in it is said, and the others go on."""
        try:
            with course(one, self._homes[one.peer], self._spaces) as its:
                yield its
        except (Failed, AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
            print(f"{one.name} failed: {error}", file=sys.stderr, flush=True)
            self._run.fact(one.name, "failure", [type(error).__name__, *str(error).strip().splitlines()][-1])


def main() -> None:
    every = contestants()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestants", nargs="*", choices=[*every, []], metavar="CONTESTANT", help=", ".join(every))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=Sizes().seconds, help="what a drain is to last")
    parser.add_argument("--smoke", action="store_true", help="one round, far too small to say anything")
    parser.add_argument("--upgrade", action="store_true", help="install newer releases of the peers")
    parser.add_argument("--no-kill", action="store_true", help="leave out the kill -9")
    arguments = parser.parse_args()
    sizes = SMOKE if arguments.smoke else Sizes(seconds=arguments.seconds)
    chosen = [every[name] for name in arguments.contestants or every]
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with recording("peers", quick=arguments.smoke) as run, Spaces() as spaces:
        race = Race(chosen, sizes, spaces, run)
        race.prepare(upgrade=arguments.upgrade)
        for number in range(1 if arguments.smoke else arguments.rounds):
            print(f"== round {number + 1}, {time.monotonic() - began:.0f} s from the start", flush=True)
            race.round()
            if number == 0 and not arguments.no_kill:
                print(f"== kill -9, {time.monotonic() - began:.0f} s from the start", flush=True)
                race.kill()
    print(f"== done, {time.monotonic() - began:.0f} s from the start", flush=True)


if __name__ == "__main__":
    main()
