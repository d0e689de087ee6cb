"""Replays what the ledger has of a job through the state machine of `outwork.job`.

The ledger has what tasks did, not what the broker decided: between two starts of a job it was rescued, given back, or
its attempt failed. Which of these is told by what the next start says of itself (the attempts, failures and crashes
before it). What no legal move explains is an error, and so is a last record that is not the one the broker has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from msgspec import Raw

from outwork import job as moves
from outwork.job import Again, Answer, Done, Job, Moment, Outcome, Record, Release, State, Terms
from support.ledger import Entry

LATER: Final = 1e12
"""Beyond every due time and every lease."""
TERMS: Final = Terms(lease=1.0)
UNSEEN: Final = "a claim that started nothing"


class Note(NamedTuple):
    """What a start or an end says of itself."""

    claim: str
    attempt: int
    crashes: int
    failures: int


class Illegal(AssertionError):
    """A ledger that the state machine cannot explain."""


def note_of(entry: Entry) -> Note:
    claim, attempt, crashes, failures, *_ = entry.note.split(" ")
    return Note(claim, int(attempt), int(crashes), int(failures))


class Replay:
    """One job, from its admission on."""

    def __init__(self, key: str, max_crashes: int) -> None:
        job = Job(v=1, id=key, task="t", args=Raw(b"{}"), max_crashes=max_crashes)
        self.key = key
        self.clock = 0.0
        self.record = moves.admit(job, b"", self._now())
        self.steps = 1

    def _now(self) -> Moment:
        self.clock += 10.0  # beyond the lease of whoever has it
        return Moment(self.clock, self.clock)

    def _goes_to(self, after: Record) -> None:
        if after.state is not self.record.state and after.state not in moves.MOVES[self.record.state]:
            raise Illegal(f"{self.key}: {self.record.state} may not go to {after.state}")
        self.record = after
        self.steps += 1

    def _claim(self, claim: str) -> None:
        now = self._now()
        if self.record.state is State.SCHEDULED:
            self._goes_to(moves.promote(self.record, now))
        if not moves.claimable(self.record, now):
            raise Illegal(f"{self.key}: claimed while it is {self.record.state}")
        self._goes_to(moves.claim(self.record, claim, "w", now, TERMS.lease))

    def _held(self) -> str:
        """The claim that has it; one that started nothing, where nobody is known to."""
        if self.record.state is not State.RUNNING:
            self._claim(UNSEEN)
        assert self.record.claim_id is not None
        return self.record.claim_id

    def settle(self, claim: str, outcome: Outcome) -> Answer:
        after, answer = moves.settle(self.record, claim, outcome, self._now(), TERMS)
        if answer is Answer.DONE:
            self._goes_to(after)
        elif after != self.record:
            raise Illegal(f"{self.key}: a settle that was not taken changed it")
        return answer

    def catch_up(self, crashes: int, failures: int) -> None:
        """The crashes and failures that the broker has counted until then."""
        while self.record.failures < failures:
            self.settle(self._held(), Again(0.0))
        while self.record.crashes < crashes:
            self._held()
            now = self._now()
            if not moves.overdue(self.record, now):
                raise Illegal(f"{self.key}: rescued while its lease lasts")
            self._goes_to(moves.rescue(self.record, now, TERMS))

    def start(self, note: Note) -> None:
        if (note.crashes, note.failures) < (self.record.crashes, self.record.failures):
            return  # by one that has lost its lease already: it may run, and is not listened to
        if self.record.state.finished:
            raise Illegal(f"{self.key}: started after it had ended")
        self.catch_up(note.crashes, note.failures)
        if self.record.state is State.RUNNING and self.record.claim_id != note.claim:
            self.settle(self._held(), Release())
        if self.record.state is not State.RUNNING:
            self._claim(note.claim)
        if self.record.attempts != note.attempt:
            raise Illegal(f"{self.key}: attempt {note.attempt} is the {self.record.attempts}. by the state machine")


def replay(entries: Sequence[Entry], key: str, last: Record) -> int:
    """How many moves a job made, which ends as this record says. Raises Illegal."""
    play = Replay(key, last.max_crashes)
    lines = [(entry.event, note_of(entry)) for entry in entries if entry.key == key and entry.event in "SEF"]
    for place, (event, note) in enumerate(lines):
        if event == "S":
            play.start(note)
            continue
        if event == "E" and _run_again(note, lines[place + 1 :], {earlier.claim for earlier in _starts(lines[:place])}):
            continue
        if event == "F" and not _taken(play.record, note, lines[place + 1 :], last):
            continue
        play.settle(note.claim, Done(b"null") if event == "E" else Again(0.0))
    if last.state is State.FAILED:
        play.catch_up(last.crashes, last.failures)
    for name in ("state", "crashes", "failures", "claim_id"):
        if getattr(play.record, name) != getattr(last, name):
            said, is_ = getattr(play.record, name), getattr(last, name)
            raise Illegal(f"{key}: by its ledger the {name} is {said}, by the broker {is_}:\n{lines}")
    return play.steps


def _run_again(note: Note, later: Sequence[tuple[str, Note]], known: set[str]) -> bool:
    """Whether its worker was gone before it could tell of this end: another claim started it then, and not one that had
    lost it before."""
    return any(
        start.claim not in known and (start.crashes, start.failures) >= (note.crashes, note.failures)
        for start in _starts(later)
    )


def _taken(record: Record, note: Note, later: Sequence[tuple[str, Note]], last: Record) -> bool:
    """Whether the broker has heard of this failure: the next start knows of it, or the record does."""
    starts = (start for start in _starts(later) if start.claim != note.claim)
    following = next((start for start in starts if start.crashes >= record.crashes), None)
    if following is None:
        return last.failures > record.failures
    return following.crashes == record.crashes and following.failures > record.failures


def _starts(lines: Sequence[tuple[str, Note]]) -> Iterator[Note]:
    return (note for event, note in lines if event == "S")
