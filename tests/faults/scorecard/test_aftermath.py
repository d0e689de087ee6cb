"""The rules of the storm, each broken once: a rule that nothing can break shows nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from msgspec import json

from faults.scorecard.aftermath import Aftermath
from faults.scorecard.storm import Gust
from outwork.job import Record, State
from support.ledger import Entry, Event

GUST = Gust("worker killed", 1, 100.0, 101.0)


@dataclass
class Story:
    """What happened, in its order."""

    entries: list[Entry] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)

    def enqueue(self, key: str, at: float, delay: float = 0.0) -> None:
        self.entries += [Entry("A", key, at, 1, str(delay)), Entry("K", key, at, 1, f"id-{key}")]

    def says(self, event: Event, key: str, at: float, claim: str = "c1", place: int = 0, crashes: int = 0) -> None:
        note = f"{claim} {crashes + 1} {crashes} 0 id-{key} place{place}-1"
        self.entries.append(Entry(event, key, at, 1, note))

    def has(
        self, key: str, claim: str = "c1", state: State = State.SUCCESSFUL, result: str = "", crashes: int = 0
    ) -> None:
        self.records[f"id-{key}"] = Record(
            id=f"id-{key}", task="t", queue="default", priority=0, body=b"", state=state, due=0.0, enqueued_at=0.0,
            claim_id=claim, result=json.encode(result or claim), at_most_once=key.startswith("once:"), crashes=crashes,
        )  # fmt: skip

    def run(self, key: str, began: float, over: float, claim: str = "c1") -> None:
        """Enqueued, run, and told of."""
        self.enqueue(key, began)
        self.says("S", key, began, claim)
        self.says("E", key, over, claim)
        self.has(key, claim)

    def wrong(self) -> set[str]:
        entries = sorted(self.entries, key=lambda one: one.at)
        return set(Aftermath(entries, self.records, [GUST]).verdict().wrong)


@pytest.fixture
def story() -> Story:
    story = Story()
    story.run("plain:p-1", 1.0, 2.0)
    return story


def test_what_is_as_it_should_be_breaks_no_rule(story: Story) -> None:
    assert story.wrong() == set()


def test_a_confirmed_job_without_an_end_is_lost(story: Story) -> None:
    story.enqueue("plain:p-2", 3.0)
    assert story.wrong() == {"lost"}


def test_what_nobody_enqueued_is_unexpected(story: Story) -> None:
    story.says("S", "plain:p-2", 3.0)
    story.says("E", "plain:p-2", 3.1)
    story.has("plain:p-2")
    assert story.wrong() == {"unexpected"}


def test_what_starts_before_its_time_is_early(story: Story) -> None:
    story.run("late:p-2", 3.0, 3.5)
    story.enqueue("late:p-2", 3.0, 1.0)
    assert story.wrong() == {"early"}


def test_at_most_once_is_started_once(story: Story) -> None:
    story.run("once:p-2", 99.0, 99.5)
    story.says("S", "once:p-2", 100.0, "c2", place=1)
    assert story.wrong() == {"more_than_once"}


@pytest.mark.parametrize(("kind", "most"), [("narrow0", 2), ("alone0", 1)])
def test_no_more_than_a_limit_says_are_inside(story: Story, kind: str, most: int) -> None:
    for number in range(most):
        story.run(f"{kind}:p-{number}", 3.0 + number / 10, 4.0)
    assert story.wrong() == set()
    story.run(f"{kind}:p-9", 3.9, 4.1)
    assert story.wrong() == {"crowded"}


def test_nothing_starts_before_what_it_waits_for(story: Story) -> None:
    story.run("step0:p-2", 3.0, 4.0)
    story.run("step1:p-3", 3.5, 4.5)
    assert story.wrong() == {"out_of_turn"}


@pytest.mark.parametrize(
    ("place", "at", "wrong"), [(1, 100.0, set()), (0, 100.0, {"for_nothing"}), (1, 90.0, {"for_nothing"})]
)
def test_only_a_fault_of_its_own_worker_runs_a_job_again(story: Story, place: int, at: float, wrong: set[str]) -> None:
    story.enqueue("plain:p-2", at)
    story.says("S", "plain:p-2", at, "c1", place)
    story.says("S", "plain:p-2", at + 10, "c2", 2, crashes=1)
    story.says("E", "plain:p-2", at + 10.1, "c2", 2, crashes=1)
    story.has("plain:p-2", "c2", crashes=1)
    assert story.wrong() == wrong


def test_the_result_is_that_of_the_claim_that_was_listened_to(story: Story) -> None:
    story.has("plain:p-1", result="c0")
    assert story.wrong() == {"untrue"}


def test_a_state_that_the_ledger_denies_is_untrue_and_illegal(story: Story) -> None:
    story.has("plain:p-1", "c7")
    assert story.wrong() == {"untrue", "illegal"}
