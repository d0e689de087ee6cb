"""The books of what binds jobs together: who holds a unique key, how many pass a gate, who waits for whom.

The rules are stated here once, for brokers that can run Python inside a transaction (memory and SQL); Redis says the
same in Lua. A broker gives a `Shelf`: its records, and small named cells that are locked when they are read. It calls

- `enqueue` for a batch in which a job is bound at its enqueue (`Ties.bound_at_enqueue`),
- `pass_gates` for jobs with gates, before it claims them,
- `follow` with every move of jobs with ties or out of HELD, right after it was made, and with those it deletes,
- `attend` when it tends, and when a cell's time has come (`Cell.at`: then there may be jobs to claim).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from outwork.brokers.base import Accepted, Standing
from outwork.brokers.turns import Line, fair_cell, line_of, takes_turns, without_key
from outwork.errors import Duplicate, InvalidOption
from outwork.job import WAITING, Job, Moment, Record, State, admit, awaited, gated, hold, let_go, paused_task
from outwork.ties import TURNS_KNOWN, Gate, Ties, Unique, fair_place, next_pass, passed

SOME: Final = 500
"""Jobs that one call lets go at most, where any number may be held."""
LOOK_AGAIN: Final = 60.0
"""Seconds after which a gate with jobs before it is looked at, even if no settle asked for that."""
PAUSE: Final = "pause:"
RESUME: Final = "resume:"


class Cell(Struct, frozen=True, omit_defaults=True, gc=False):
    """One entry of the books, whatever its kind. `at`: look at it then (`attend`); `until`: it means nothing after that
    and may be forgotten.

    - `unique:KEY`      `job` holds the key, taken at `first`
    - `fair:LINE:KEY`   the last place of the key in this line (queue:priority) is `first`
    - `gate:KEY`        so many are `running`; the rate's allowance is spent until `spent`; the gate as last seen
    - `after:JOB`       the job is held until `left` others have ended, of which so many are `missing` (not enqueued)
    - `pause:WHAT`      it is paused since `first`; `resume:task:NAME`: its jobs are being let go
    - `schedule:NAME`   its last slot is `first`
    """

    job: str = ""
    first: float = 0.0
    running: int = 0
    spent: float = 0.0
    gate: Gate | None = None
    left: int = 0
    missing: int = 0
    at: float | None = None
    until: float | None = None


class Change(NamedTuple):
    """A move of one job."""

    before: Record
    after: Record


class Found(NamedTuple):
    """Those of some jobs that are known; `cells` of some names; and the due time of the first ready job of some lines,
    where there is one."""

    known: set[str]
    cells: dict[str, Cell]
    fronts: dict[Line, float]


class Shelf(Protocol):
    """What the books need of a broker, inside one of its transactions. `now` is its one reading of the clock."""

    now: Moment

    def cells(self, names: Collection[str]) -> dict[str, Cell]:
        """Those of these cells that exist, locked (also against being made) until the end of the transaction."""
        ...

    def look_up(self, ids: Collection[str], names: Collection[str], lines: Collection[Line]) -> Found:
        """What an enqueue of these jobs has to know."""
        ...

    def write_cells(self, cells: Mapping[str, Cell | None]) -> None:
        """Set cells that were read here; None removes one."""

    def due_cells(self, limit: int) -> list[str]:
        """The names of up to `limit` cells whose `at` has come."""
        ...

    def load(self, ids: Iterable[str]) -> dict[str, Record]:
        """The records of these jobs, as far as they are known."""
        ...

    def insert(self, records: Sequence[Record]) -> None:
        """Add jobs whose ids are not known."""

    def move(self, changes: Sequence[Change]) -> None:
        """Write moves down; nothing else follows from it."""

    def rewrite(self, changes: Sequence[Change]) -> None:
        """Write down waiting jobs whose body, priority, times or ties have changed, or running ones whose ties have."""

    def held(self, knot: str, limit: int) -> list[Record]:
        """Up to `limit` jobs held by this knot, in the order of their line."""
        ...


# ---- enqueue --------------------------------------------------------------------------------------------------------


def unique_cell(key: str) -> str:
    """The cell of a unique key."""
    return f"unique:{key}"


def unknown_upstream(task: str, job_id: str) -> InvalidOption:
    """Why a job that is to come after an unknown one is refused."""
    return InvalidOption(
        f"{task}: after=... names the job {job_id}, which is not known: it was pruned, or never enqueued. It was not "
        "enqueued"
    )


def key_held(task: str, key: str, holder: str) -> Duplicate:
    """Why a job whose unique key is held is refused."""
    return Duplicate(f"{task}: the job {holder} holds the unique key {key!r}. It was not enqueued", holder)


def enqueue(shelf: Shelf, given: Sequence[tuple[Job, bytes]]) -> list[Accepted]:
    """Add jobs some of which are bound to others; `given` with their envelopes."""
    batch = {job.id: admit(job, body, shelf.now) for job, body in given}
    names = {name for record in batch.values() for name in _cells_of(record)}
    lines = {line_of(record) for record in batch.values() if takes_turns(record)}
    there, cells, fronts = shelf.look_up(batch, names, lines)
    for job_id in there:
        del batch[job_id]
    after = {job_id for job, _ in given if job.ties is not None for job_id in job.ties.after}
    known = shelf.load(after) if after else {}
    entry = _Entry(shelf, known, batch, cells, fronts)
    answers = [entry.add(batch[job.id]) if job.id in batch else None for job, _ in given]
    entry.write()
    return answers


def _cells_of(record: Record) -> Iterable[str]:
    ties = record.ties or Ties()
    if ties.unique is not None:
        yield unique_cell(ties.unique.key)
    if ties.fair is not None and takes_turns(record):
        yield fair_cell(line_of(record), ties.fair)
    if ties.awaits or ties.after:
        yield awaited(record.id)
    yield from map(awaited, ties.reports)


class _Entry:
    """One batch on its way in: `known` are the records of jobs that were there before."""

    def __init__(
        self,
        shelf: Shelf,
        known: dict[str, Record],
        batch: Mapping[str, Record],
        cells: dict[str, Cell],
        fronts: dict[Line, float],
    ) -> None:
        self._shelf = shelf
        self._known = known
        self._batch = batch
        self._cells = cells
        self._fronts = fronts
        self._written: dict[str, Cell | None] = {}
        self._new: dict[str, Record] = {}
        self._changed: dict[str, Record] = {}

    def add(self, record: Record) -> Accepted:
        """The answer for this job."""
        if record.id in self._new:
            return None
        ties = record.ties or Ties()
        unknown = [other for other in ties.after if other not in self._known and other not in self._batch]
        if unknown:
            return unknown_upstream(record.task, unknown[0])
        answer = None if ties.unique is None else self._take_key(record, ties.unique)
        if answer is None:
            self._new[record.id] = self._line_up(record)
        return answer

    def write(self) -> None:
        """Write everything down."""
        for record in list(self._new.values()):
            if record.ties is not None and (record.ties.awaits or record.ties.after):
                self._hold_back(record, record.ties)
        arrived = Counter(job_id for one in self._batch.values() if one.id in self._new for job_id in _reports(one))
        for job_id, members in arrived.items():
            cell = self._cells.get(awaited(job_id))
            if cell is not None:  # otherwise that job was cancelled, or has waited long enough
                missing = max(0, cell.missing - members)
                self._write(awaited(job_id), replace(cell, missing=missing, at=cell.at if missing else None))
        self._shelf.insert(list(self._new.values()))
        self._shelf.rewrite([Change(self._known[job_id], after) for job_id, after in self._changed.items()])
        self._shelf.write_cells(self._written)

    def _write(self, name: str, cell: Cell) -> None:
        self._cells[name] = self._written[name] = cell

    def _now_at(self, job_id: str) -> Record | None:
        """A job as it is with what this batch has changed."""
        return self._new.get(job_id) or self._changed.get(job_id) or self._known.get(job_id)

    def _change(self, record: Record) -> None:
        (self._new if record.id in self._new else self._changed)[record.id] = record

    def _line_up(self, record: Record) -> Record:
        """The job in the place that its fair key gives it."""
        if record.ties is None or record.ties.fair is None or not takes_turns(record):
            return without_key(record)
        line, wall = line_of(record), self._shelf.now.wall
        name = fair_cell(line, record.ties.fair)
        cell = self._cells.get(name) or Cell(until=wall)
        last = cell.first if cell.until is not None and cell.until > wall else None
        place = fair_place(self._fronts.get(line), last, wall)
        self._fronts.setdefault(line, place)
        self._write(name, Cell(first=place, until=wall + TURNS_KNOWN))
        return replace(without_key(record), due=place)

    def _take_key(self, record: Record, unique: Unique) -> Accepted:
        """Take the unique key, or answer for a job that finds it held."""
        name, wall = unique_cell(unique.key), self._shelf.now.wall
        cell = self._cells.get(name)
        if cell is not None and (cell.until is None or cell.until > wall):
            if unique.conflict == "return":
                return Standing(cell.job)
            if unique.conflict == "raise":
                return key_held(record.task, unique.key, cell.job)
            if cell.job not in self._known and cell.job not in self._new:
                self._known.update(self._shelf.load([cell.job]))
            holder = self._now_at(cell.job)
            if holder is not None and holder.state in WAITING:
                self._replace(holder, record, unique, cell.first)
                return Standing(holder.id)
        until = None if unique.seconds is None else wall + unique.seconds
        self._write(name, Cell(job=record.id, first=wall, until=until))
        return None

    def _replace(self, holder: Record, by: Record, unique: Unique, first: float) -> None:
        """The waiting job goes on with what the later one asks for."""
        due = by.due if unique.patience is None else min(by.due, first + unique.patience)
        if takes_turns(by) and holder.state is not State.SCHEDULED:
            due = holder.due  # it keeps its place in the line
        state = State.SCHEDULED if due > self._shelf.now.wall else State.READY
        self._change(
            replace(
                holder,
                body=by.body,
                priority=by.priority,
                due=due,
                expires_at=by.expires_at,
                state=State.HELD if holder.state is State.HELD else state,
            )
        )

    def _hold_back(self, record: Record, ties: Ties) -> None:
        """The job waits until the others have ended; those of `after` are told to say so."""
        left = ties.awaits
        for other in ties.after:
            upstream = self._now_at(other)
            if upstream is not None and not upstream.state.finished:
                left += 1
                its = upstream.ties or Ties()
                self._change(replace(upstream, ties=replace(its, reports=(*its.reports, record.id))))
        if left:
            at = self._shelf.now.wall + ties.within if ties.awaits else None
            self._write(awaited(record.id), Cell(left=left, missing=ties.awaits, at=at))
            self._new[record.id] = hold(self._new[record.id], awaited(record.id))


def _reports(record: Record) -> tuple[str, ...]:
    return () if record.ties is None else record.ties.reports


# ---- gates ----------------------------------------------------------------------------------------------------------


def pass_gates(shelf: Shelf, records: Sequence[Record]) -> tuple[list[str], list[Change]]:
    """Let ready jobs through their gates, in this order: the ids of those that may be claimed now, which must happen in
    this transaction, and the moves of the others, which are held at the first gate that is closed."""
    wall = shelf.now.wall
    cells = shelf.cells({gated(gate.key) for record in records for gate in _gates(record)})
    written: dict[str, Cell | None] = {}
    through: list[str] = []
    kept: list[Change] = []
    for record in records:
        gates = _gates(record)
        closed = next((g for g in gates if not _is_open(g, cells.get(gated(g.key)) or Cell(), wall)), None)
        for gate in gates if closed is None else (closed,):
            name = gated(gate.key)
            cell = replace(cells.get(name) or Cell(), gate=gate)
            if closed is None:
                spent = passed(gate, cell.spent, wall) if gate.rate else cell.spent
                until = None if gate.most else spent  # a rate alone means nothing once all is paid for
                cell = replace(cell, running=cell.running + bool(gate.most), spent=spent, until=until)
            else:
                cell = replace(cell, at=_look_again(gate, cell, wall), until=None)
            cells[name] = written[name] = cell
        if closed is None:
            through.append(record.id)
        else:
            kept.append(Change(record, hold(record, gated(closed.key))))
    shelf.write_cells(written)
    return through, kept


def _gates(record: Record) -> tuple[Gate, ...]:
    return () if record.ties is None else record.ties.gates


def _is_open(gate: Gate, cell: Cell, wall: float) -> bool:
    if gate.most and cell.running >= gate.most:
        return False
    return not gate.rate or next_pass(gate, cell.spent, wall) <= wall


def _look_again(gate: Gate, cell: Cell, wall: float) -> float:
    """When a gate with jobs before it is to be looked at."""
    if gate.rate and not (gate.most and cell.running >= gate.most):
        return next_pass(gate, cell.spent, wall)
    return wall + LOOK_AGAIN


# ---- what follows from moves ----------------------------------------------------------------------------------------


def concerns(record: Record) -> bool:
    """Whether anything can follow from a move of this job."""
    return record.ties is not None or record.knot is not None


def follow(shelf: Shelf, changes: Sequence[Change]) -> int:
    """Do what moves that were just written down mean for other jobs; how many of these were let go. `after` of a job
    that was deleted: as if it had been cancelled."""
    freed: Counter[str] = Counter()
    """Gates through which a job may pass now, and how many."""
    left: Counter[str] = Counter()
    """Gates that a running job has left."""
    told: Counter[str] = Counter()
    released: dict[str, str] = {}
    """Jobs that have ended, by the cell of the unique key they may hold."""
    gone: set[str] = set()
    paused: dict[str, list[Record]] = {}
    for before, after in changes:
        ended = after.state.finished and not before.state.finished
        ran = before.state is State.RUNNING and after.state is not State.RUNNING
        for gate in _gates(before):
            if ran:
                left[gated(gate.key)] += bool(gate.most)
            if ran or (ended and before.knot is None):
                freed[gated(gate.key)] += 1
        if ended and before.ties is not None:
            for waiting in before.ties.reports:
                told[awaited(waiting)] += 1
            if before.ties.unique is not None:
                released[unique_cell(before.ties.unique.key)] = before.id
        if ended and before.knot == awaited(before.id):
            gone.add(awaited(before.id))
        if after.state is State.HELD and after.knot == paused_task(after.task):
            paused.setdefault(paused_task(after.task), []).append(after)
    names = {*freed, *told, *released, *gone, *paused}
    if not names:
        return 0
    cells = shelf.cells(names)
    written: dict[str, Cell | None] = dict.fromkeys(gone & cells.keys())
    for name, job_id in released.items():
        cell = cells.get(name)
        if cell is not None and cell.job == job_id and cell.until is None:
            written[name] = None
    for name, number in left.items():
        if name in cells and number:
            cell = replace(cells[name], running=max(0, cells[name].running - number))
            if not cell.running and cell.at is None:  # nobody is in it or before it
                cell = replace(cell, until=max(cell.spent, shelf.now.wall))
            cells[name] = written[name] = cell
    ready = _tell(cells, told, written)
    shelf.write_cells(written)
    free = [one for name, held in paused.items() if name not in cells for one in held]
    for name, number in freed.items():
        free += shelf.held(name, number)
    free += [one for one in shelf.load(ready).values() if one.state is State.HELD]
    return _let_go(shelf, free)


def _tell(cells: dict[str, Cell], told: Counter[str], written: dict[str, Cell | None]) -> list[str]:
    """Count down what held jobs wait for; the ids of those that need not wait any more."""
    ready: list[str] = []
    for name, number in told.items():
        cell = cells.get(name)
        if cell is None or (name in written and written[name] is None):  # it was cancelled in the same moment
            continue
        if cell.left > number:
            cells[name] = written[name] = replace(cell, left=cell.left - number)
        else:
            written[name] = None
            ready.append(name.partition(":")[2])
    return ready


def _let_go(shelf: Shelf, records: Iterable[Record]) -> int:
    changes = [Change(record, let_go(record, shelf.now)) for record in {one.id: one for one in records}.values()]
    if changes:
        shelf.move(changes)
    return len(changes)


# ---- time -----------------------------------------------------------------------------------------------------------


def attend(shelf: Shelf, limit: int = SOME) -> int:
    """Look at cells whose time has come. How many jobs may be claimed now that were held before."""
    due = shelf.due_cells(limit)
    if not due:
        return 0
    released = 0
    cells = shelf.cells(due)
    written: dict[str, Cell | None] = {}
    for name, cell in cells.items():
        if cell.at is None or cell.at > shelf.now.wall:
            continue
        kind, _, rest = name.partition(":")
        if kind == "gate":
            written[name], number = _open_gate(shelf, name, cell)
            released += number
        elif kind == "after":
            missing = Counter({name: cell.missing})
            cells[name] = written[name] = replace(cell, missing=0, at=None)
            released += _let_go(shelf, shelf.load(_tell(cells, missing, written)).values())
        elif kind == "resume":
            held = shelf.held(PAUSE + rest, SOME)
            released += _let_go(shelf, held)
            written[name] = cell if len(held) == SOME else None
    shelf.write_cells(written)
    return released


def _open_gate(shelf: Shelf, name: str, cell: Cell) -> tuple[Cell | None, int]:
    """Let go as many as may pass now. They pass when they are claimed: nothing is spent here."""
    wall, gate, spent = shelf.now.wall, cell.gate or Gate(""), cell.spent
    room = gate.most - cell.running if gate.most else SOME
    number = 0
    while number < room and (not gate.rate or next_pass(gate, spent, wall) <= wall):
        number += 1
        spent = passed(gate, spent, wall) if gate.rate else spent
    released = _let_go(shelf, shelf.held(name, number)) if number > 0 else 0
    if shelf.held(name, 1):
        return replace(cell, at=_look_again(gate, replace(cell, spent=spent), wall)), released
    idle = not cell.running and cell.spent <= wall
    return None if idle else replace(cell, at=None), released


# ---- pauses and schedules -------------------------------------------------------------------------------------------


def pause(shelf: Shelf, what: str) -> None:
    """Note that it is paused."""
    name = PAUSE + what
    if name not in shelf.cells({name, RESUME + what}):
        shelf.write_cells({name: Cell(first=shelf.now.wall), RESUME + what: None})


def resume(shelf: Shelf, what: str) -> None:
    """The end of a pause: held jobs are let go, in batches."""
    held = PAUSE + what
    shelf.cells({held, RESUME + what})
    some = shelf.held(held, SOME)
    more = Cell(at=shelf.now.wall) if len(some) == SOME else None
    shelf.write_cells({held: None, RESUME + what: more})
    _let_go(shelf, some)


def tick(shelf: Shelf, schedule: str, last: float | None, slot: float, given: Sequence[tuple[Job, bytes]]) -> bool:
    """Compare and set a schedule's last slot, together with its jobs."""
    name = f"schedule:{schedule}"
    cell = shelf.cells([name]).get(name)
    if (cell.first if cell is not None else None) != last:
        return False
    shelf.write_cells({name: Cell(first=slot)})
    if given:
        enqueue(shelf, given)
    return True
