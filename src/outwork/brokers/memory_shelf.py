"""Where the in-memory broker keeps its jobs: records in one dictionary, heaps that say which is next, and the cells of
`outwork.brokers.ledger`.

A heap entry may be out of date (its job moved on); it is recognised when it comes to the top, and dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import heappop, heappush

from outwork.brokers.ledger import Cell, Change, Found
from outwork.brokers.turns import Line
from outwork.job import Moment, Record, State, claimable, order, promote


class MemoryShelf:
    """`put` writes a record down and does what follows from it. `now` is set at the start of each verb."""

    def __init__(self, put: Callable[[Record], None]) -> None:
        self.now = Moment(0.0, 0.0)
        self.records: dict[str, Record] = {}
        self.ready: dict[str, dict[int, list[tuple[float, str]]]] = {}
        """By queue and priority."""
        self.scheduled: list[tuple[float, str]] = []
        self.running: set[str] = set()
        self.finished: deque[str] = deque()
        self.moments: list[tuple[float, str]] = []
        self.progress: dict[str, bytes] = {}
        self._put = put
        self._kept_for: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        self._cells: dict[str, Cell] = {}
        self._attention: dict[str, float] = {}
        self._ends: list[tuple[float, str]] = []
        self._held: dict[str, list[tuple[tuple[int, float, str], str]]] = {}

    # ---- jobs -------------------------------------------------------------------------------------------------------

    def place(self, record: Record) -> None:
        """Store a record and note where it is."""
        before = self.records.get(record.id)
        self.records[record.id] = record
        self.running.discard(record.id)
        moment = record.prune_at if record.state.finished else record.expires_at
        if moment is not None:
            heappush(self.moments, (moment, record.id))
        match record.state:
            case State.READY:
                lines = self.ready.setdefault(record.queue, {})
                heappush(lines.setdefault(record.priority, []), (record.due, record.id))
            case State.SCHEDULED:
                heappush(self.scheduled, (record.due, record.id))
            case State.RUNNING:
                self.running.add(record.id)
            case State.HELD:
                assert record.knot is not None
                heappush(self._held.setdefault(record.knot, []), (order(record), record.id))
            case _:
                for job_id, others in self._kept_for.pop(record.id, ()):
                    self._end(job_id, others)
                self._end(record.id, () if before is None or before.ties is None else before.ties.reports)

    def _end(self, job_id: str, reports: tuple[str, ...]) -> None:
        """It may be forgotten when those that come for its result have ended."""
        for number, other in enumerate(reports, 1):
            waiting = self.records.get(other)
            if waiting is not None and not waiting.state.finished:
                self._kept_for.setdefault(other, []).append((job_id, reports[number:]))
                return
        self.finished.append(job_id)

    def forget(self, job_id: str) -> None:
        """Remove a job that has ended."""
        del self.records[job_id]
        self.progress.pop(job_id, None)

    def forget_surplus(self, kept: int) -> None:
        """Remember so many ended jobs at most, the newest."""
        while len(self.finished) > kept:
            record = self.records.get(self.finished.popleft())
            if record and record.state.finished:
                self.forget(record.id)

    def top(self, queue: str) -> Record | None:
        """The next job to claim from a queue, still in its heap."""
        lines = self.ready.get(queue, {})
        for priority in sorted(lines, reverse=True):
            while (record := self._front(Line(queue, priority))) is not None:
                if claimable(record, self.now):
                    return record
                heappop(lines[priority])  # tend ends it by its record
            del lines[priority]
        return None

    def pop(self, record: Record) -> None:
        """Take the job that `top` has just shown from its heap."""
        heappop(self.ready[record.queue][record.priority])

    def _front(self, line: Line) -> Record | None:
        """The first ready job of a line, still in its heap; those that moved on are dropped."""
        heap = self.ready.get(line.queue, {}).get(line.priority, [])
        while heap:
            due, job_id = heap[0]
            record = self.records.get(job_id)
            if record and record.state is State.READY and (record.due, record.priority) == (due, line.priority):
                return record
            heappop(heap)
        return None

    def promote(self) -> None:
        """Make ready what is due."""
        while (first := self.first_scheduled()) is not None and first.due <= self.now.wall:
            heappop(self.scheduled)
            self._put(promote(first, self.now))

    def first_scheduled(self) -> Record | None:
        """The scheduled job that is due next; what moved on is dropped from the top."""
        while self.scheduled:
            due, job_id = self.scheduled[0]
            record = self.records.get(job_id)
            if record and record.state is State.SCHEDULED and record.due == due:
                return record
            heappop(self.scheduled)
        return None

    def due_in(self, queues: Collection[str], look_at: int) -> float | None:
        """Seconds until the next scheduled job of these queues, or of any queue where more than `look_at` are
        scheduled; or until a cell is to be looked at."""
        moments = [] if (look := self._next_look()) is None else [look]
        first = self.first_scheduled()
        if first is not None and (first.queue in queues or len(self.scheduled) > look_at):
            moments.append(first.due)
        elif first is not None:
            moments += [
                due
                for due, job_id in self.scheduled
                if (r := self.records.get(job_id)) and r.state is State.SCHEDULED and r.due == due and r.queue in queues
            ]
        return max(0.0, min(moments) - self.now.wall) if moments else None

    # ---- cells ------------------------------------------------------------------------------------------------------

    def cells(self, names: Collection[str]) -> dict[str, Cell]:
        return {name: self._cells[name] for name in names if name in self._cells}

    def look_up(self, ids: Collection[str], names: Collection[str], lines: Collection[Line]) -> Found:
        fronts = {line: record.due for line in lines if (record := self._front(line)) is not None}
        return Found({job_id for job_id in ids if job_id in self.records}, self.cells(names), fronts)

    def write_cells(self, cells: Mapping[str, Cell | None]) -> None:
        for name, cell in cells.items():
            self._attention.pop(name, None)
            if cell is None:
                self._cells.pop(name, None)
                continue
            self._cells[name] = cell
            if cell.at is not None:
                self._attention[name] = cell.at
            if cell.until is not None:
                heappush(self._ends, (cell.until, name))

    def due_cells(self, limit: int) -> list[str]:
        return [name for name, at in self._attention.items() if at <= self.now.wall][:limit]

    def _next_look(self) -> float | None:
        return min(self._attention.values(), default=None)

    def forget_cells(self, limit: int) -> None:
        """Forget up to `limit` cells that mean nothing any more."""
        for _ in range(limit):
            if not self._ends or self._ends[0][0] > self.now.wall:
                return
            _, name = heappop(self._ends)
            cell = self._cells.get(name)
            if cell is not None and cell.until is not None and cell.until <= self.now.wall:
                del self._cells[name]

    def named(self, prefix: str) -> dict[str, Cell]:
        """The cells whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): cell for name, cell in self._cells.items() if name.startswith(prefix)}

    # ---- what the ledger asks for -----------------------------------------------------------------------------------

    def load(self, ids: Iterable[str]) -> dict[str, Record]:
        return {job_id: self.records[job_id] for job_id in ids if job_id in self.records}

    def insert(self, records: Sequence[Record]) -> None:
        for record in records:
            self._put(record)

    def move(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._put(change.after)

    rewrite = move

    def held(self, knot: str, limit: int) -> list[Record]:
        heap = self._held.get(knot, [])
        found: dict[str, Record] = {}
        while heap and len(found) < limit:
            place, job_id = heappop(heap)
            record = self.records.get(job_id)
            if record and record.state is State.HELD and record.knot == knot and order(record) == place:
                found[job_id] = record
        for record in found.values():
            heappush(heap, (order(record), record.id))
        if not heap:
            self._held.pop(knot, None)
        return list(found.values())

    def clear(self) -> None:
        """Forget everything."""
        for jobs in (self.records, self.ready, self.scheduled, self.running, self.finished, self.moments, self._held):
            jobs.clear()
        for others in (self.progress, self._cells, self._attention, self._ends, self._kept_for):
            others.clear()
