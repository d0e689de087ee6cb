"""Promises of an outbox: what a store adds so that a transport can stand beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from outwork.brokers.base import Claimed, Outbox, Pace, Settlement, Ticket
from outwork.ids import new_claim_id, new_job_id
from outwork.job import Again, Answer, Done, Release, State
from outwork.testing.conformance.rig import Promises, Rig, ids, new_failure, new_job

PACE = Pace(horizon=60.0, grace=30.0, stale=3600.0)


class OutboxConformance(Promises):
    """Every promise of an `Outbox`. Subclass it for a store that is one, and give it a fixture `make_broker`, which
    makes objects that were not yet asked to keep an outbox."""

    @pytest.fixture
    def asked(self, rig: Rig) -> Rig:
        """The broker, asked to keep an outbox."""
        outbox(rig).keep_outbox(PACE)
        return rig

    # ---- who is in it ----

    def test_a_job_is_sent_by_a_keeper_after_a_grace(self, asked: Rig) -> None:
        job_id = asked.put_one()
        assert unsent(asked) == []
        asked.advance(PACE.grace - 5)
        assert unsent(asked) == []
        asked.advance(6)
        assert unsent(asked) == [job_id]
        assert unsent(asked) == [job_id], "until it is marked as sent"

    def test_a_ticket_says_what_a_message_needs(self, asked: Rig) -> None:
        job_id = asked.put_one(new_job(queue="mail", priority=7, at_most_once=True))
        soon = asked.put_one(new_job(delay=50.0))
        asked.advance(31)
        [first, second] = outbox(asked).unsent(10)
        assert first == Ticket(job_id, "mail", 7, 0.0, True)
        assert second._replace(delay=0.0) == Ticket(soon, "default", 0, 0.0, False)
        assert 5.0 < second.delay <= 19.0

    def test_what_was_sent_is_sent_again_when_nobody_has_claimed_it_for_long(self, asked: Rig) -> None:
        job_id = asked.put_one()
        outbox(asked).mark_sent([job_id, new_job_id()])
        asked.advance(PACE.stale - 10)
        assert unsent(asked) == []
        asked.advance(11)
        assert unsent(asked) == [job_id]

    def test_a_job_of_later_is_sent_when_it_comes_near(self, asked: Rig) -> None:
        job_id = asked.put_one(new_job(delay=1000.0))
        asked.advance(1000.0 - PACE.horizon - 10)
        assert unsent(asked) == []
        asked.advance(11)
        assert unsent(asked) == [job_id]

    def test_many_jobs_at_once_are_all_in_it(self, asked: Rig) -> None:
        """Of each kind that a store may write in another way."""
        mixed = [new_job(delay=float(n % 2) or None, priority=n % 3) for n in range(250)]
        asked.put(*mixed, *[new_job() for _ in range(250)])
        asked.advance(31)
        assert len(unsent(asked, 1000)) == 500

    def test_those_longest_unsent_come_first_each_batch_in_its_order(self, asked: Rig) -> None:
        older = asked.put(new_job(priority=-1), new_job(priority=1))
        asked.advance(5)
        asked.put_one(new_job(priority=100))
        asked.advance(31)
        assert unsent(asked, 2) == [older[1], older[0]]

    # ---- who begins to wait, and who waits no more ----

    def test_a_job_that_is_claimed_leaves_it(self, asked: Rig) -> None:
        job_id = asked.put_one()
        assert ids(take(asked, [job_id])) == [job_id]
        asked.advance(PACE.stale + 10)
        assert unsent(asked) == []

    @pytest.mark.parametrize("outcome", [Again(0.0, (new_failure(),)), Release(), Release(1.0, missed=True)], ids=repr)
    def test_a_job_given_back_has_its_grace_anew(self, asked: Rig, outcome: Again | Release) -> None:
        job_id = asked.put_one()
        [claimed] = take(asked, [job_id])
        asked.advance(25)
        assert asked.settle(claimed, outcome) is Answer.DONE
        asked.advance(25)
        assert unsent(asked) == []
        asked.advance(6)
        assert unsent(asked) == [job_id]

    def test_a_retry_of_much_later_waits_in_the_store(self, asked: Rig) -> None:
        job_id = asked.put_one()
        [claimed] = take(asked, [job_id])
        asked.settle(claimed, Again(500.0, (new_failure(),)))
        asked.advance(400)
        assert unsent(asked) == []
        asked.advance(50)
        assert unsent(asked) == [job_id]

    def test_a_rescued_job_has_no_grace(self, asked: Rig) -> None:
        job_id = asked.put_one()
        take(asked, [job_id])
        assert asked.crash().rescued == 1
        [ticket] = outbox(asked).unsent(10)
        assert (ticket.job_id, ticket.solo) == (job_id, True)

    def test_a_job_that_ends_leaves_it(self, asked: Rig) -> None:
        cancelled, deleted, expired = asked.put(new_job(), new_job(), new_job(expires=5.0))
        asked.store.cancel([cancelled])
        asked.store.delete([deleted])
        asked.advance(40)
        asked.tend()
        assert asked.record(expired).state is State.FAILED
        assert unsent(asked) == []

    def test_a_job_retried_by_hand_has_no_grace(self, asked: Rig) -> None:
        job_id = asked.put_one()
        asked.store.cancel([job_id])
        asked.store.retry([job_id])
        assert unsent(asked) == [job_id]

    # ---- other processes ----

    def test_what_waits_already_is_to_be_sent(self, rig: Rig) -> None:
        waiting = rig.put(new_job(), new_job(delay=30.0))
        rig.put_one(new_job(delay=5000.0))
        outbox(rig).keep_outbox(PACE)
        assert sorted(unsent(rig)) == sorted(waiting)

    def test_an_outbox_is_kept_by_who_opens_the_store_later(self, asked: Rig) -> None:
        first = asked.put_one()
        other = asked.another()
        second = other.put_one()
        asked.advance(31)
        assert sorted(unsent(other)) == sorted([first, second])

    def test_a_retry_by_who_came_before_is_in_it(self, rig: Rig) -> None:
        before = rig.another()
        job_id = before.put_one()
        before.store.cancel([job_id])
        outbox(rig).keep_outbox(PACE)
        assert unsent(rig) == []
        before.store.retry([job_id])
        assert unsent(rig) == [job_id]

    def test_without_an_outbox_nothing_is_to_be_sent(self, rig: Rig) -> None:
        rig.put_one()
        rig.advance(PACE.stale)
        assert unsent(rig) == []

    # ---- claiming ----

    def test_named_jobs_are_claimed_in_the_order_of_their_names(self, asked: Rig) -> None:
        jobs = asked.put(*[new_job(queue=f"q{n % 2}", priority=n) for n in range(6)])
        wanted = [jobs[3], jobs[0], jobs[5]]
        claimed = take(asked, wanted)
        assert ids(claimed) == wanted
        assert asked.settle(claimed[0], Done(b"1")) is Answer.DONE
        assert [asked.record(job_id).state for job_id in jobs[:4]] == [
            State.RUNNING,
            State.READY,
            State.READY,
            State.SUCCESSFUL,
        ]

    def test_only_ready_jobs_are_claimed(self, asked: Rig) -> None:
        ready, cancelled, elsewhere, late = asked.put(new_job(), new_job(), new_job(), new_job(expires=5.0))
        asked.store.cancel([cancelled])
        take(asked, [elsewhere])
        asked.advance(6)
        assert ids(take(asked, [new_job_id(), late, elsewhere, cancelled, ready, ready])) == [ready]
        assert asked.record(cancelled).state is State.CANCELLED

    def test_a_job_that_fell_due_unseen_is_claimed(self, asked: Rig) -> None:
        job_id = asked.put_one(new_job(delay=20.0))
        asked.advance(21)
        assert ids(take(asked, [job_id])) == [job_id]

    def test_a_message_that_comes_too_early_is_sent_again(self, asked: Rig) -> None:
        job_id = asked.put_one(new_job(delay=100.0))
        outbox(asked).mark_sent([job_id])
        assert take(asked, [job_id]) == []
        asked.advance(35)
        assert unsent(asked) == []
        asked.advance(10)
        assert unsent(asked) == [job_id]

    def test_a_claim_is_what_any_other_is(self, asked: Rig) -> None:
        job = new_job(args=b'{"text":"' + b"x" * 5000 + b'"}')
        job_id = asked.put_one(job)
        [claimed] = take(asked, [job_id])
        asked.settle(claimed, Again(0.0, (new_failure(),)))
        [again] = take(asked, [job_id], worker="worker-2")
        assert (again.attempt, again.errors, again.body) == (2, (new_failure(),), claimed.body)
        asked.advance(asked.broker.terms.lease + 1)
        assert asked.tend().rescued == 1
        assert asked.settle(again, Done(b"1")) is Answer.STALE

    def test_a_claim_repeated_returns_what_it_holds(self, asked: Rig) -> None:
        first, second = asked.put(new_job(), new_job())
        claim_id = new_claim_id()
        [one] = outbox(asked).claim_these(claim_id, [first], "worker-1")
        assert outbox(asked).claim_these(claim_id, [first], "worker-1") == [one]
        assert ids(outbox(asked).claim_these(claim_id, [first, second], "worker-1")) == [first, second]
        assert outbox(asked).claim_these(new_claim_id(), [first, second], "worker-2") == []
        settled = asked.exchange([Settlement(job_id, claim_id, Done(b"1")) for job_id in (first, second)])
        assert settled.answers == [Answer.DONE, Answer.DONE]

    def test_a_claim_in_several_goes_is_rescued_whole(self, asked: Rig) -> None:
        jobs = asked.put(*[new_job() for _ in range(4)])
        claim_id = new_claim_id()
        for job_id in jobs:
            outbox(asked).claim_these(claim_id, [job_id], "worker-1")
        assert asked.crash().rescued == 4
        assert sorted(unsent(asked)) == sorted(jobs)

    def test_nothing_named_is_nothing_claimed(self, asked: Rig) -> None:
        assert take(asked, []) == []
        outbox(asked).mark_sent([])


def outbox(rig: Rig) -> Outbox:
    assert isinstance(rig.broker, Outbox)
    return rig.broker


def unsent(rig: Rig, limit: int = 100) -> list[str]:
    return [ticket.job_id for ticket in outbox(rig).unsent(limit)]


def take(rig: Rig, wanted: Sequence[str], worker: str = "worker-1") -> list[Claimed]:
    return outbox(rig).claim_these(new_claim_id(), wanted, worker)
