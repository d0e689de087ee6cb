"""What was measured, kept beside the code: one JSON file for each part of the benchmarks, in `benchmarks/results`.

    with recording("bound") as run:
        run.add("Redis", "plain enqueue", "jobs/s", 5_305)       # once for each round
        run.fact("Redis", "settings", "append-only file")        # what is known of a subject, and not measured

A file is made of runs. A run says when, by which command and on which code and machine it was made; a later run takes
the place of the measurements that it made anew and leaves the others, which keep the date and the commit of their run.
The page (`benchmarks.page`) is written from these files and from nothing else.
"""

from __future__ import annotations

import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parents[1]
KEPT: Final = Path(os.environ.get("BENCH_RESULTS") or Path(__file__).resolve().parent / "results")
"""The folder of the results. $BENCH_RESULTS names another one, to measure without changing the page."""
QUICK: Final = KEPT / "quick"
"""Where quick runs write. It is not committed."""
DIGITS: Final = 6
"""Significant digits of a value that is kept."""


class Measurement(msgspec.Struct):
    """One quantity of one subject, with a value for each round; None is a round that did not get there in its time."""

    subject: str
    quantity: str
    unit: str
    values: list[float | None]

    @property
    def rounds(self) -> list[float]:
        """The values; what did not get there is infinite."""
        return [math.inf if value is None else value for value in self.values]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the most."""
        return min(self.rounds), max(self.rounds)

    @property
    def key(self) -> tuple[str, str]:
        return self.subject, self.quantity


class Machine(msgspec.Struct, frozen=True):
    cores: int
    processor: str
    memory_gb: float
    python: str


class Run(msgspec.Struct):
    """One call of a command, and what is left of what it measured."""

    command: str
    began: datetime
    ended: datetime
    commit: str
    dirty: bool
    """Whether the code was not as committed."""
    machine: Machine
    load: tuple[float, float]
    """The load average of the last minute when it began and when it ended; the benchmark's own processes count."""
    versions: dict[str, str]
    """Of servers and packages."""
    facts: dict[str, dict[str, str]]
    """For each subject, what is known of it and not measured."""
    measurements: list[Measurement]


class Result(msgspec.Struct):
    """The runs of one part, the oldest first. No measurement is in two of them."""

    name: str
    runs: list[Run] = []

    def find(self, subject: str, quantity: str) -> Measurement | None:
        found = self._found((subject, quantity))
        return found and found[1]

    def run_of(self, subject: str, quantity: str) -> Run | None:
        found = self._found((subject, quantity))
        return found and found[0]

    def subjects(self, quantity: str | None = None) -> list[str]:
        """Those that were measured (in this), in the order of their first measurement."""
        every = (one for run in self.runs for one in run.measurements)
        return list(dict.fromkeys(one.subject for one in every if quantity in (None, one.quantity)))

    def fact(self, subject: str, name: str) -> str | None:
        """What the newest run that knows the subject says of it: where nothing fails any more, no failure is kept."""
        said = [run.facts[subject] for run in self.runs if subject in run.facts]
        return said[-1].get(name) if said else None

    def _found(self, key: tuple[str, str]) -> tuple[Run, Measurement] | None:
        for run in self.runs:
            for one in run.measurements:
                if one.key == key:
                    return run, one
        return None


def merged(result: Result, run: Run) -> Result:
    """The result with a new run. Older runs lose what it measured anew; one that has nothing left is gone."""
    anew = {one.key for one in run.measurements}
    older = [
        msgspec.structs.replace(old, measurements=[one for one in old.measurements if one.key not in anew])
        for old in result.runs
    ]
    return Result(result.name, [*(old for old in older if old.measurements), run])


def load(name: str, folder: Path = KEPT) -> Result:
    """What is kept under this name; an empty result if nothing is. Raises ValidationError for another shape."""
    path = folder / f"{name}.json"
    return msgspec.json.decode(path.read_bytes(), type=Result) if path.exists() else Result(name)


def save(result: Result, folder: Path = KEPT) -> Path:
    """Write it, in one step, and give the path."""
    path = folder / f"{result.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    new.replace(path)
    return path


class Recorder:
    """Takes the measurements of a run, and prints each one."""

    def __init__(self, run: Run, name: str, folder: Path) -> None:
        self.run = run
        self._name, self._folder = name, folder
        self._found: dict[tuple[str, str], Measurement] = {}

    def add(self, subject: str, quantity: str, unit: str, *values: float | None) -> None:
        """Measured: one value, or those of all rounds. More of the same are rounds of it. Raises ValueError for
        another unit than before, and for a value that is no number."""
        kept = [None if value is None else _rounded(value) for value in values]
        one = self._found.get((subject, quantity))
        if one is None:
            one = self._found[subject, quantity] = Measurement(subject, quantity, unit, [])
            self.run.measurements.append(one)
        if one.unit != unit:
            raise ValueError(f"{quantity} of {subject} is in {one.unit}, not in {unit}")
        one.values += kept
        said = ", ".join("did not get there" if value is None else f"{value:,.6g}" for value in kept)
        print(f"{subject:<24} {quantity:<44} {said:>14} {unit}", flush=True)

    def median(self, subject: str, quantity: str) -> float:
        """Of what was added so far. Raises KeyError if nothing was."""
        return self._found[subject, quantity].median

    def fact(self, subject: str, name: str, value: str) -> None:
        self.run.facts.setdefault(subject, {})[name] = value

    def version(self, name: str, version: str) -> None:
        """Of a server or a package."""
        self.run.versions[name] = version

    def keep(self) -> None:
        """Merge what was measured so far into what is kept, in case this run never comes to its end."""
        if self.run.measurements:
            self.run.ended = datetime.now(UTC).replace(microsecond=0)
            self.run.load = (self.run.load[0], round(os.getloadavg()[0], 2))
            save(merged(load(self._name, self._folder), self.run), self._folder)


@contextmanager
def recording(
    name: str, *, quick: bool = False, command: str | None = None, folder: Path | None = None
) -> Iterator[Recorder]:
    """Record a run: at the end, or at an error, what was measured is merged into what is kept under this name.

    Quick runs are kept apart. `command` is this process' own if none is given.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    commit, dirty = _commit()
    begin = round(os.getloadavg()[0], 2)
    run = Run(command or _command(), now, now, commit, dirty, _machine(), (begin, begin), {}, {}, [])
    recorder = Recorder(run, name, folder or (QUICK if quick else KEPT))
    try:
        yield recorder
    finally:
        recorder.keep()


def _rounded(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is no measurement")
    return float(f"{value:.{DIGITS}g}")


def _command() -> str:
    """How this process was started: `python -m package arguments`."""
    spec = sys.modules["__main__"].__spec__
    start = ["-m", spec.name.removesuffix(".__main__")] if spec else [Path(sys.argv[0]).name]
    return shlex.join(["python", *start, *sys.argv[1:]])


def _commit() -> tuple[str, bool]:
    """The commit of the code, and whether there are changes beside it. What the benchmarks write does not count."""
    try:
        return _git("rev-parse", "--short", "HEAD"), bool(_git("status", "--porcelain", "--", ".", *WRITTEN))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


WRITTEN: Final = (":!benchmarks/results", ":!docs")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _machine() -> Machine:
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    processor = models[0] if models else platform.machine()
    return Machine(len(os.sched_getaffinity(0)), processor, round(memory, 1), platform.python_version())


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
