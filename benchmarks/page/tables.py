"""The tables of what was measured of Outwork itself, by the names under which docs/benchmarks.md asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from benchmarks.page.cells import Book, Row, beside_each_other, missing, number, origin, table

CALL: Final = "latency from the call"
RETURN: Final = "latency from the return"
LATENCY: Final = (
    Row("latency from the call of `enqueue`, p50 / p99, ms", f"{CALL}, p50", then=f"{CALL}, p99"),
    Row("latency from its return, p50 / p99, ms", f"{RETURN}, p50", then=f"{RETURN}, p99"),
)
DRAIN: Final = (
    Row("drain, one worker process, jobs/s", "drain, one process"),
    Row("drain, two worker processes, jobs/s", "drain, two processes"),
)
ENDTOEND: Final = (
    *DRAIN,
    Row("jobs of a drain", "drain, jobs"),
    Row("`enqueue_many`, jobs/s", "enqueue, many"),
    Row("`enqueue`, one at a time, jobs/s", "enqueue, one at a time"),
    *LATENCY,
    Row(
        "right after the drains, from its return, ms",
        f"after the drains, {RETURN}, p50",
        then=f"after the drains, {RETURN}, p99",
    ),
    Row(
        "async tasks of 50 ms on 100 slots, % of the least time there is",
        "async tasks of 50 ms, of the least time there is",
    ),
)
IDLE: Final = (
    Row("processor time, % of a core", "idle worker, CPU"),
    Row("memory, MB", "idle worker, memory"),
    Row("first job after the silence, from the call of `enqueue`, ms", "latency after a silence, from the call"),
    Row("from its return, ms", "latency after a silence, from the return"),
)
CROWD: Final = "beside a crowd"
DRIVERS: Final = (
    Row("bare driver, 1,000 at once, jobs/s", "bare driver, 1,000 at once"),
    Row("enqueue of 1,000, of that", "enqueue, 1,000 at once", of="bare driver, 1,000 at once"),
    Row("bare driver, one at a time, jobs/s", "bare driver, one at a time"),
    Row("enqueue of one, of that", "enqueue, one at a time", of="bare driver, one at a time"),
    Row("enqueue of one, eight threads, jobs/s", "enqueue, eight threads"),
    Row("bare driver, consume, messages/s", "bare driver, consume"),
    Row("settle 200 and claim 200, without a worker, jobs/s", "exchange"),
    Row("leases renewed, /s", "extend"),
)
CROWDED: Final = (
    Row("enqueue of 1,000, of an empty one", f"enqueue, {CROWD}", of="enqueue, 1,000 at once"),
    Row("settle and claim, of an empty one", f"exchange, {CROWD}", of="exchange"),
    Row("counting them, ms", f"counts, {CROWD}"),
    Row("memory of a waiting job, bytes", "memory of a waiting job"),
    Row("memory of a finished job, bytes", "memory of a finished job"),
)
LEAST: Final = "the least queue"
BARE: Final = (
    Row("the least queue, settle 200 and claim 200, jobs/s", f"{LEAST}, exchange"),
    Row("Outwork, of that", "exchange", of=f"{LEAST}, exchange"),
    Row("a trivial command and its reply, after a pause, ms", "round trip after a pause"),
    Row("from a thread to one that sleeps, after a pause, ms", "thread hop after a pause"),
    Row(
        "the least queue, from the call of its insert to the claim, p50 / p99, ms",
        f"{LEAST}, {CALL}, p50",
        then=f"{LEAST}, {CALL}, p99",
    ),
    Row("Outwork, from the call of `enqueue` to the task, p50 / p99, ms", f"{CALL}, p50", then=f"{CALL}, p99"),
    Row(
        "the least queue, from the return of its insert, p50 / p99, ms",
        f"{LEAST}, {RETURN}, p50",
        then=f"{LEAST}, {RETURN}, p99",
    ),
    Row("Outwork, from the return of `enqueue`, p50 / p99, ms", f"{RETURN}, p50", then=f"{RETURN}, p99"),
)
BOUND: Final = tuple(
    Row(f"{how}: {kind}", f"{how}, {kind}", of=f"{how}, plain")
    for how in ("one at a time", "1,000 at once")
    for kind in ("unique", "fair key", "limit")
)
FLOW: Final = (
    Row("drain, jobs/s", "plain drain"),
    Row("processor time of a job, µs", "plain drain, CPU"),
    Row("group with a callback, jobs/s", "group with a callback"),
    Row("of the drain, by the clock", "group with a callback", of="plain drain"),
    Row("processor time of a member, µs", "group with a callback, CPU"),
)
DJANGO: Final = (
    *DRAIN,
    Row("`enqueue`, 1,000 in a transaction, tasks/s", "enqueue, 1,000 in a transaction"),
    Row("`enqueue`, one at a time, tasks/s", "enqueue, one at a time"),
    *LATENCY,
    Row("idle worker, MB", "idle worker, memory"),
)
ISOLATION: Final = (Row("CPU-bound jobs, s", "CPU-bound jobs"),)
FIELD: Final = "channels_redis"
LAYERS: Final = (FIELD, "Redis", "Redis, Channels' worker", "PostgreSQL", "SQLite")


def crowd(book: Book) -> str:
    sizes = {size for one in book["drivers"].subjects() if (size := book["drivers"].fact(one, "crowd"))}
    shown = beside_each_other(book, "drivers", CROWDED)
    return f"So many finished and so many waiting jobs: {', '.join(sorted(sizes))}.\n\n{shown}" if sizes else shown


def idle(book: Book) -> str:
    silences = {said for one in book["idle"].subjects() if (said := book["idle"].fact(one, "silence"))}
    shown = beside_each_other(book, "idle", IDLE)
    return f"Each silence lasted {', '.join(sorted(silences))}.\n\n{shown}" if silences else shown


def start(book: Book) -> str:
    found = book.median("start", "outwork", "import outwork")
    if found is None:
        return missing("start")
    return f"`import outwork` takes {number(found)} ms.\n\n{origin(book['start'], ['import outwork'])}"


def growth(book: Book) -> str:
    """A line for each tenth; what came beside a pinned snapshot stands in the last columns."""
    result = book["growth"]
    free, pinned = "PostgreSQL", "PostgreSQL, beside a pinned snapshot"
    columns = [
        (free, "jobs so far", "jobs so far"),
        *((free, quantity, text) for quantity, text in GROWN.items()),
        *((pinned, quantity, f"{text}, snapshot pinned") for quantity, text in GROWN.items()),
    ]
    found = [result.find(subject, quantity) for subject, quantity, _ in columns]
    if any(one is None for one in found):
        return missing("growth")
    values = [one.rounds for one in found if one]
    rows = [[number(value) for value in row] for row in zip(*values, strict=True)]
    return table([text for _, _, text in columns], rows) + "\n" + origin(result, ["jobs so far"], [free], rounds=False)


GROWN: Final = {"exchange": "jobs/s", "dead rows": "dead rows", "hot tables": "hot tables, MB"}


def channels(book: Book) -> str:
    """Each quantity, and how many times better than the field's layer it is."""
    result = book["channels"]
    names = [one for one in LAYERS if one in result.subjects()]
    if FIELD not in names:
        return missing("channels")
    rows: list[list[str]] = []
    quantities = dict.fromkeys(one.quantity for run in result.runs for one in run.measurements)
    for quantity in quantities:
        base = result.find(FIELD, quantity)
        if base is None:
            continue
        cells = [f"{quantity}, {base.unit}", number(base.median)]
        for name in names[1:]:
            found = result.find(name, quantity)
            better = found and (found.median / base.median if base.unit.endswith("/s") else base.median / found.median)
            cells.append(f"{number(found.median)} ({number(better)})" if found and better else "")
        rows.append(cells)
    return table(["", f"`{FIELD}`", *names[1:]], rows) + "\n" + origin(result, quantities)


def machine(book: Book) -> str:
    """Where the kept results were measured: one machine, or each of them."""
    runs = [run for part in PARTS for run in book[part].runs]
    said = dict.fromkeys(
        f"{one.cores} cores ({one.processor}), {number(one.memory_gb)} GB, Python {one.python}"
        for one in (run.machine for run in runs)
    )
    return f"Measured on {'; and on '.join(said)}.\n" if said else "Nothing is measured yet: run `make bench`.\n"


PARTS: Final = (
    "start",
    "endtoend",
    "idle",
    "drivers",
    "bare",
    "bound",
    "flow",
    "django",
    "isolation",
    "channels",
    "growth",
)

TABLES: Final[Mapping[str, Callable[[Book], str]]] = {
    "machine": machine,
    "endtoend": partial(beside_each_other, part="endtoend", rows=ENDTOEND),
    "idle": idle,
    "start": start,
    "drivers": partial(beside_each_other, part="drivers", rows=DRIVERS),
    "crowd": crowd,
    "bare": partial(beside_each_other, part="bare", rows=BARE),
    "bound": partial(beside_each_other, part="bound", rows=BOUND),
    "flow": partial(beside_each_other, part="flow", rows=FLOW),
    "growth": growth,
    "django": partial(beside_each_other, part="django", rows=DJANGO),
    "isolation": partial(
        beside_each_other, part="isolation", rows=ISOLATION, subjects=("two threads", "two child processes")
    ),
    "channels": channels,
}
