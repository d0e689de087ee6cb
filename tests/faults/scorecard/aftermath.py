"""What the ledger and the records say of a storm that is over."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from faults.scorecard.replay import Illegal, Note, replay
from faults.scorecard.storm import WORKERS, Gust
from outwork.job import Record, State
from support.ledger import Entry
from support.storm import MOST

PAD: Final = 3.0
"""So long before and after a fault may an attempt have been in flight at it: its outcome was on its way, or its worker
had it in hand and did not know yet that the connection was gone."""
MOMENT: Final = 0.5
"""Longer than an attempt that nothing stops."""


class Attempt(NamedTuple):
    """A start, and the end of it, if it came to that. `event`: E, F, or "" for none."""

    key: str
    job: str
    worker: str
    note: Note
    began: float
    over: float
    event: str


class Verdict(NamedTuple):
    """What does not hold, by its rule. `twice`: attempts at what another one did, `bound`: those that were in flight at
    a fault."""

    wrong: dict[str, list[str]]
    jobs: int
    twice: int
    bound: int
    replayed: int


class Aftermath:
    """What is left of a storm: the ledger, what the broker has of its jobs (nothing, if it keeps no records), and what
    happened when."""

    def __init__(self, entries: Sequence[Entry], records: dict[str, Record] | None, gusts: Sequence[Gust]) -> None:
        self._entries = entries
        self._records = records
        self._gusts = gusts
        self._attempted = {one.key: one for one in entries if one.event == "A"}
        self._confirmed = {one.key: one for one in entries if one.event == "K"}
        self._attempts = list(attempts(entries))
        self._by_job: defaultdict[str, list[Attempt]] = defaultdict(list)
        for attempt in self._attempts:
            self._by_job[attempt.job].append(attempt)
        self._ends = {one.key: one.at for one in reversed(entries) if one.event == "E"}
        """The first one of each."""
        self.replayed = 0

    def verdict(self) -> Verdict:
        rules = [
            self.lost, self.unexpected, self.early, self.more_than_once, self.crowded, self.out_of_turn,
            self.for_nothing, self.untrue, self.illegal,
        ]  # fmt: skip
        wrong = {rule.__name__: sorted(rule()) for rule in rules}
        extra = sum(len(same) - 1 for same in self._rounds())
        in_flight = sum(1 for one in self._attempts if self._excused(one))
        return Verdict(
            {name: what for name, what in wrong.items() if what}, len(self._attempted), extra, in_flight, self.replayed
        )

    # ---- rules: each yields what breaks it ----

    def lost(self) -> Iterator[str]:
        """Confirmed or started, and it has no end. At most once without a record: nobody can say."""
        if self._records is None:
            yield from (k for k in self._confirmed if k not in self._ends and kind_of(k) != "once")
            return
        known = {one.note: one.key for one in self._confirmed.values()} | {one.job: one.key for one in self._attempts}
        for job, key in known.items():
            record = self._records.get(job)
            good = (State.SUCCESSFUL, State.FAILED) if kind_of(key) == "once" else (State.SUCCESSFUL,)
            if record is None or record.state not in good:
                yield f"{key}: {record}"

    def unexpected(self) -> Iterator[str]:
        yield from {one.key for one in self._attempts} - set(self._attempted)

    def early(self) -> Iterator[str]:
        for one in self._attempts:
            asked = self._attempted.get(one.key)
            if asked is not None and one.began < asked.at + float(asked.note) - 0.05:
                yield f"{one}: {asked}"

    def more_than_once(self) -> Iterator[str]:
        """At most once, it said."""
        starts = Counter(one.key for one in self._attempts if kind_of(one.key) == "once")
        yield from (f"{key}: {self._of(key)}" for key, times in starts.items() if times > 1)

    def crowded(self) -> Iterator[str]:
        """More at a time than a limit lets in, or two jobs of a unique key. Only attempts that the broker has taken an
        outcome of: the others may have lost their lease, and so their place, before they knew."""
        if self._records is None:
            return
        for kind in {kind_of(key) for key in self._attempted}:
            if kind.startswith(("narrow", "alone")):
                most = MOST if kind.startswith("narrow") else 1
                inside: list[Attempt] = []
                for one in sorted(
                    (a for a in self._attempts if kind_of(a.key) == kind and self._sound(a)), key=lambda a: a.began
                ):
                    inside = [other for other in inside if other.over > one.began] + [one]
                    if len(inside) > most:
                        yield f"{kind}: {inside}"

    def out_of_turn(self) -> Iterator[str]:
        """Started before what it waits for had ended."""
        before = {"step1": ("step0",), "step2": ("step1",), "callback": ("member", "member", "member")}
        for one in self._attempts:
            kinds = before.get(kind_of(one.key), ())
            name, _, number = one.key.partition(":")[2].rpartition("-")
            for back, kind in enumerate(reversed(kinds), 1):
                key = f"{kind}:{name}-{int(number) - back}"
                if self._ends.get(key, one.began + 1) > one.began:
                    yield f"{one} before {key}"

    def for_nothing(self) -> Iterator[str]:
        """Run again, and no fault had hit the attempt before."""
        for same in self._rounds():
            innocent = [one for one in same if not self._excused(one)]
            if len(innocent) > 1:
                yield f"{innocent}"

    def untrue(self) -> Iterator[str]:
        """A state or a result that is not what the attempt that the broker has listened to did."""
        for job, record in (self._records or {}).items():
            ended = [one for one in self._by_job[job] if one.event == "E" and one.note.claim == record.claim_id]
            if (record.state is State.SUCCESSFUL) != bool(ended) and not record.at_most_once:
                yield f"{record}: {self._by_job[job]}"
            elif record.state is State.SUCCESSFUL and msgspec.json.decode(record.result or b"") != record.claim_id:
                yield f"the result of another attempt: {record}"

    def illegal(self) -> Iterator[str]:
        """What the state machine does not explain."""
        for job, record in (self._records or {}).items():
            if record.at_most_once:
                continue
            if not (found := self._by_job[job]):
                yield f"nothing in the ledger: {record}"
                continue
            try:
                self.replayed += replay(self._entries, found[0].key, record)
            except Illegal as error:
                yield str(error)

    # ---- what they look at ----

    def _rounds(self) -> Iterator[list[Attempt]]:
        """The attempts at the same: of one job, after the same failures. One of them was needed."""
        for found in self._by_job.values():
            same: defaultdict[int, list[Attempt]] = defaultdict(list)
            for one in found:
                same[one.note.failures].append(one)
            yield from same.values()

    def _sound(self, one: Attempt) -> bool:
        """Whether the broker took what this attempt said."""
        assert self._records is not None
        if one.event == "E":
            return self._records[one.job].claim_id == one.note.claim
        later = [other.note for other in self._by_job[one.job]]
        return one.event == "F" and any(
            note.failures == one.note.failures + 1 and note.crashes == one.note.crashes for note in later
        )

    def _excused(self, one: Attempt) -> bool:
        """Whether it was in flight at a fault. Without records a job may be there twice whose confirmation was lost."""
        if self._records is None and self._confirmed_in_a_gust(one.key):
            return True
        return any(
            gust.place is None or one.worker.startswith(f"place{gust.place}") for gust in self._at(one.began, one.over)
        )

    def _confirmed_in_a_gust(self, key: str) -> bool:
        confirmed = self._confirmed.get(key)
        return confirmed is None or any(
            gust.place in (None, WORKERS) for gust in self._at(self._attempted[key].at, confirmed.at)
        )

    def _at(self, began: float, over: float) -> Iterator[Gust]:
        return (gust for gust in self._gusts if gust.began - PAD <= over and began <= gust.over + PAD)

    def _of(self, key: str) -> str:
        lines = sorted([entry for entry in self._entries if entry.key == key], key=lambda one: one.at)
        return "\n".join(map(str, lines))


def kind_of(key: str) -> str:
    return key.partition(":")[0]


def attempts(entries: Iterable[Entry]) -> Iterator[Attempt]:
    """The starts, each with the end of the same claim."""
    ends = {(one.key, one.note): one for one in entries if one.event in "EF"}
    for one in entries:
        if one.event == "S":
            claim, attempt, crashes, failures, job, worker = one.note.split(" ")
            end = ends.get((one.key, one.note))
            over = (end.at, end.event) if end else (one.at + MOMENT, "")
            yield Attempt(one.key, job, worker, Note(claim, int(attempt), int(crashes), int(failures)), one.at, *over)
