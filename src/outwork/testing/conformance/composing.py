"""Promises of composition: jobs that wait for the end of others."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from outwork.errors import InvalidOption
from outwork.job import Again, Dead, Done, Job, State
from outwork.testing.conformance.rig import Promises, Rig, ids, new_failure, new_job
from outwork.ties import Ties

DEAD = Dead((new_failure(),))


def gathering(members: int, within: float = 600.0) -> tuple[Job, list[Job]]:
    """A job that waits, and the jobs that report to it."""
    last = replace(new_job("suite.last"), ties=Ties(awaits=members, within=within))
    return last, [replace(new_job(), ties=Ties(reports=(last.id,))) for _ in range(members)]


class ComposingPromises(Promises):
    def test_a_job_waits_until_all_that_report_to_it_have_ended(self, rig: Rig) -> None:
        rig.need("composition")
        last, members = gathering(3)
        rig.put(last, *members)
        assert rig.record(last.id).state is State.HELD
        claimed = rig.take(3)
        assert sorted(ids(claimed)) == [job.id for job in members]
        for number, one in enumerate(claimed):
            assert rig.record(last.id).state is State.HELD, number
            rig.settle(one, Done(b"1"))
        assert ids(rig.take(1)) == [last.id]

    @pytest.mark.parametrize("how", ["dead", "cancelled", "deleted", "buried", "expired"])
    def test_every_end_counts(self, rig: Rig, how: str) -> None:
        rig.need("composition")
        last, [member] = gathering(1)
        rig.put(last, replace(member, max_crashes=0, expires=30.0 if how == "expired" else None))
        match how:
            case "dead":
                rig.settle(rig.take_one(), DEAD)
            case "cancelled":
                rig.store.cancel([member.id])
            case "deleted":
                rig.store.delete([member.id])
            case "buried":
                rig.take_one()
                rig.advance(rig.broker.terms.lease + 1)
                rig.tend(rescue=True)
            case _:
                rig.advance(31)
                rig.tend(rescue=False)
        assert ids(rig.take(1)) == [last.id]

    def test_an_attempt_that_is_to_be_repeated_is_no_end(self, rig: Rig) -> None:
        rig.need("composition")
        last, [member] = gathering(1)
        rig.put(last, member)
        rig.settle(rig.take_one(), Again(0.0, (new_failure(),)))
        assert rig.record(last.id).state is State.HELD
        rig.settle(rig.take_one(), Done(b"1"))
        assert ids(rig.take(1)) == [last.id]

    def test_a_settle_repeated_or_stale_tells_nobody_twice(self, rig: Rig) -> None:
        rig.need("composition")
        last, members = gathering(2)
        rig.put(last, *members)
        first, _ = rig.take(2)
        for _ in range(3):
            rig.settle(first, Done(b"1"))
        assert rig.record(last.id).state is State.HELD

    def test_a_member_run_again_by_hand_tells_nobody_again(self, rig: Rig) -> None:
        rig.need("composition")
        last, members = gathering(2)
        rig.put(last, *members)
        first, second = rig.take(2)
        rig.settle(first, DEAD)
        rig.store.retry([first.id])
        rig.settle(rig.take_one(), Done(b"1"))
        assert rig.record(last.id).state is State.HELD
        rig.settle(second, Done(b"1"))
        assert ids(rig.take(1)) == [last.id]

    def test_a_chain_runs_in_its_order(self, rig: Rig) -> None:
        rig.need("composition")
        c = replace(new_job("suite.c"), ties=Ties(awaits=1))
        b = replace(new_job("suite.b"), ties=Ties(awaits=1, reports=(c.id,)))
        a = replace(new_job("suite.a"), ties=Ties(reports=(b.id,)))
        rig.put(c, b, a)
        for job in (a, b, c):
            claimed = rig.take_one()
            assert (claimed.id, rig.claim()) == (job.id, [])
            rig.settle(claimed, Done(b"1"))

    def test_members_may_come_later_in_batches(self, rig: Rig) -> None:
        rig.need("composition")
        last, members = gathering(3)
        rig.put(last)
        rig.put(members[0])
        rig.settle(rig.take_one(), Done(b"1"))
        assert rig.claim() == []
        rig.put(*members[1:])
        rig.settle_all(rig.take(2), Done(b"1"))
        assert ids(rig.take(1)) == [last.id]

    def test_an_enqueue_repeated_counts_its_members_once(self, rig: Rig) -> None:
        rig.need("composition", "idempotent")
        last, members = gathering(2, within=60.0)
        rig.put(last)
        for _ in range(3):
            rig.put(members[0])
        rig.settle(rig.take_one(), Done(b"1"))
        assert rig.record(last.id).state is State.HELD
        rig.put(members[1])
        rig.settle(rig.take_one(), Done(b"1"))
        assert ids(rig.take(1)) == [last.id]

    def test_members_that_never_came_do_not_hold_it_for_ever(self, rig: Rig) -> None:
        rig.need("composition")
        last, members = gathering(3, within=60.0)
        rig.put(last, *members[:2])
        rig.settle_all(rig.take(2), Done(b"1"))
        rig.advance(30)
        rig.tend(rescue=False)
        assert rig.claim() == []
        rig.advance(31)
        rig.tend(rescue=False)
        assert ids(rig.take(1)) == [last.id]

    def test_members_that_came_are_waited_for_however_long_they_take(self, rig: Rig) -> None:
        rig.need("composition")
        last, members = gathering(2, within=60.0)
        rig.put(last, *members)
        first, second = rig.take(2)
        rig.settle(first, Done(b"1"))
        rig.settle(second, Again(3600.0, (new_failure(),)))
        rig.advance(600)
        rig.tend(rescue=False)
        assert rig.record(last.id).state is State.HELD

    def test_a_job_can_come_after_jobs_of_before(self, rig: Rig) -> None:
        rig.need("composition")
        ended, waiting, running = rig.put(new_job(), new_job(), new_job())
        claims = {one.id: one for one in rig.take(3)}
        rig.settle(claims[ended], Done(b"1"))
        rig.settle(claims[waiting], Again(0.0, (new_failure(),)))
        after = replace(new_job("suite.after"), ties=Ties(after=(ended, waiting, running)))
        rig.put(after)
        assert rig.record(after.id).state is State.HELD
        rig.settle(claims[running], Done(b"1"))
        assert rig.record(after.id).state is State.HELD
        rig.settle(rig.take_one(), Done(b"1"))
        assert ids(rig.take(1)) == [after.id]

    def test_a_job_after_others_that_have_all_ended_is_ready(self, rig: Rig) -> None:
        rig.need("composition")
        rig.put(new_job())
        ended = rig.take_one()
        rig.settle(ended, DEAD)
        after = replace(new_job("suite.after"), ties=Ties(after=(ended.id,)))
        rig.put(after)
        assert ids(rig.take(1)) == [after.id]

    def test_a_job_after_one_that_nobody_knows_is_refused(self, rig: Rig) -> None:
        rig.need("composition")
        lost = replace(new_job(), ties=Ties(after=(new_job().id,)))
        [answer, other] = rig.offer(lost, new_job())
        assert isinstance(answer, InvalidOption)
        assert other is None
        assert rig.store.get([lost.id]) == [None]

    def test_a_held_job_can_be_cancelled_and_its_members_run_on(self, rig: Rig) -> None:
        rig.need("composition")
        last, members = gathering(2)
        rig.put(last, *members)
        assert rig.store.cancel([last.id]) == [State.CANCELLED]
        rig.settle_all(rig.take(2), Done(b"1"))
        assert rig.claim() == []
        assert rig.record(last.id).state is State.CANCELLED

    def test_a_held_job_that_has_its_own_time_waits_for_that_too(self, rig: Rig) -> None:
        rig.need("composition", "defer")
        last, [member] = gathering(1)
        rig.put(replace(last, delay=60.0), member)
        rig.settle(rig.take_one(), Done(b"1"))
        assert rig.record(last.id).state is State.SCHEDULED
        rig.advance(61)
        assert ids(rig.take(1)) == [last.id]

    def test_a_large_group_comes_to_its_end(self, rig: Rig) -> None:
        rig.need("composition")
        last, members = gathering(2000)
        rig.put(last)
        rig.put(*members[:1000])
        rig.put(*members[1000:])
        for _ in range(4):
            rig.settle_all(rig.take(500), Done(b"1"))
        assert ids(rig.take(1)) == [last.id]
