"""Promises of what bounds jobs: unique keys, replaced jobs, gates of concurrency and rate, turns by fair keys."""

from __future__ import annotations

import pytest
from msgspec import Raw
from msgspec.structs import replace

from outwork import codec
from outwork.brokers.base import Filter, Settlement, Standing
from outwork.errors import Duplicate
from outwork.job import Again, Answer, Dead, Done, Job, Release, State
from outwork.testing.conformance.rig import Promises, Rig, about, ids, new_failure, new_job
from outwork.ties import Conflict, Gate, Ties, Unique

DEAD = Dead((new_failure(),))
ALONE = (Gate("c:alone", most=1),)


def unique(key: str = "k", conflict: Conflict = "return", seconds: float | None = None) -> Ties:
    return Ties(unique=Unique(key, seconds, conflict))


def tied(ties: Ties, job: Job | None = None, **changes: object) -> Job:
    return replace(job or new_job(), ties=ties, **changes)


def of(tenant: str, number: int = 1, job: Job | None = None, **ties: object) -> list[Job]:
    """Jobs with this fair key."""
    return [tied(replace(Ties(fair=tenant), **ties), job and replace(job, id=new_job().id)) for _ in range(number)]


class BoundingPromises(Promises):
    # ---- unique -----------------------------------------------------------------------------------------------------

    def test_a_second_job_of_a_unique_key_is_answered_with_the_first(self, rig: Rig) -> None:
        rig.need("unique")
        first = rig.put_one(tied(unique()))
        assert rig.offer(tied(unique()), new_job(), tied(unique("other"))) == [Standing(first), None, None]
        assert len(rig.take(3)) == 3

    def test_two_of_a_key_in_one_batch_are_one_job(self, rig: Rig) -> None:
        rig.need("unique")
        a, b = tied(unique()), tied(unique())
        assert rig.offer(a, b) == [None, Standing(a.id)]
        assert ids(rig.take(1)) == [a.id]

    def test_an_enqueue_repeated_with_its_id_is_no_conflict(self, rig: Rig) -> None:
        rig.need("unique", "idempotent")
        job = tied(unique(conflict="raise"))
        rig.put(job)
        assert rig.offer(job) == [None]
        rig.take_one()
        assert rig.claim() == []

    def test_a_repeated_enqueue_of_a_job_that_has_ended_takes_no_key(self, rig: Rig) -> None:
        rig.need("unique", "idempotent")
        job = tied(unique())
        rig.put(job)
        rig.settle(rig.take_one(), Done(b"1"))
        assert rig.offer(job) == [None]
        assert rig.offer(tied(unique()), job) == [None, None]
        rig.take_one()
        assert rig.claim() == []

    def test_a_key_can_be_refused_instead(self, rig: Rig) -> None:
        rig.need("unique")
        first = rig.put_one(tied(unique()))
        [answer, other] = rig.offer(tied(unique(conflict="raise")), new_job())
        assert (type(answer), other) == (Duplicate, None)
        assert isinstance(answer, Duplicate)
        assert answer.job_id == first

    def test_a_running_job_holds_its_key_until_it_ends(self, rig: Rig) -> None:
        rig.need("unique")
        first = rig.put_one(tied(unique()))
        claimed = rig.take_one()
        assert rig.offer(tied(unique())) == [Standing(first)]
        rig.settle(claimed, Again(0.0, (new_failure(),)))
        assert rig.offer(tied(unique())) == [Standing(first)]
        rig.settle(rig.take_one(), Done(b"1"))
        assert rig.offer(tied(unique())) == [None]

    @pytest.mark.parametrize("how", ["dead", "cancelled", "deleted", "buried", "expired"])
    def test_every_end_lets_the_key_go(self, rig: Rig, how: str) -> None:
        rig.need("unique")
        job = tied(unique(), new_job(max_crashes=0, expires=30.0 if how == "expired" else None))
        job_id = rig.put_one(job)
        match how:
            case "dead":
                rig.settle(rig.take_one(), DEAD)
            case "cancelled":
                rig.store.cancel([job_id])
            case "deleted":
                rig.store.delete([job_id])
            case "buried":
                rig.take_one()
                rig.advance(rig.broker.terms.lease + 1)
                rig.tend(rescue=True)
            case _:
                rig.advance(31)
                rig.tend(rescue=False)
        assert rig.offer(tied(unique())) == [None]

    def test_a_key_is_held_for_its_time_whatever_becomes_of_the_job(self, rig: Rig) -> None:
        rig.need("unique")
        first = rig.put_one(tied(unique(seconds=60.0)))
        rig.settle(rig.take_one(), Done(b"1"))
        rig.advance(50)
        assert rig.offer(tied(unique(seconds=60.0))) == [Standing(first)]
        rig.advance(11)
        assert rig.offer(tied(unique(seconds=60.0))) == [None]

    def test_a_job_retried_by_hand_holds_no_key(self, rig: Rig) -> None:
        rig.need("unique")
        job_id = rig.put_one(tied(unique()))
        rig.settle(rig.take_one(), DEAD)
        rig.store.retry([job_id])
        assert rig.offer(tied(unique())) == [None]
        rig.settle_all(rig.take(2), Done(b"1"))
        assert rig.offer(tied(unique())) == [None]

    # ---- replaced jobs ----------------------------------------------------------------------------------------------

    def test_a_waiting_job_is_replaced_where_it_waits(self, rig: Rig) -> None:
        rig.need("unique")
        first = tied(unique(conflict="replace"))
        rig.put(first)
        later = tied(unique(conflict="replace"), args=Raw(b'{"x":2}'), priority=7)
        assert rig.offer(later) == [Standing(first.id)]
        assert (rig.record(first.id).priority, rig.store.get([later.id])) == (7, [None])
        claimed = rig.take_one()
        assert (claimed.id, codec.decode_job(claimed.body).args) == (first.id, Raw(b'{"x":2}'))
        rig.settle(claimed, Done(b"1"))
        assert rig.claim() == []

    def test_a_running_job_is_not_replaced_the_later_one_comes_after_it(self, rig: Rig) -> None:
        rig.need("unique")
        rig.put(tied(unique(conflict="replace")))
        running = rig.take_one()
        later, last = tied(unique(conflict="replace")), tied(unique(conflict="replace"))
        assert rig.offer(later) == [None]
        rig.settle(running, Done(b"1"))
        assert rig.offer(last) == [Standing(later.id)]
        assert ids(rig.take(1)) == [later.id]

    def test_a_job_that_is_replaced_again_and_again_waits_no_longer_than_its_patience(self, rig: Rig) -> None:
        rig.need("unique", "defer")
        ties = Ties(unique=Unique("k", None, "replace", patience=100.0))
        first = rig.put_one(tied(ties, delay=60.0))
        rig.advance(50)
        assert rig.offer(tied(ties, delay=60.0)) == [Standing(first)]
        rig.advance(40)  # 90: the first time is over, the second is due at 110, but no later than 100
        assert rig.claim() == []
        assert rig.offer(tied(ties, delay=60.0)) == [Standing(first)]
        rig.advance(11)
        assert ids(rig.take(1)) == [first]

    # ---- concurrency ------------------------------------------------------------------------------------------------

    def gated(self, rig: Rig, number: int, gates: tuple[Gate, ...] = ALONE) -> list[str]:
        rig.need("gates")
        return rig.put(*(tied(Ties(gates=gates)) for _ in range(number)))

    def test_no_more_jobs_of_a_key_run_than_may(self, rig: Rig) -> None:
        a, b, c = self.gated(rig, 3, (Gate("c:two", most=2),))
        free = rig.put_one()
        first = rig.take(3)
        assert sorted(ids(first)) == sorted([a, b, free])
        first.sort(key=lambda one: one.id)
        rig.find_closed(c)
        assert rig.another().claim(worker="worker-2") == []
        rig.settle(first[1], Done(b"1"))
        assert ids(rig.take(1)) == [c]

    def test_jobs_behind_a_closed_gate_keep_their_order(self, rig: Rig) -> None:
        rig.need_priorities()
        self.gated(rig, 1)
        running = rig.take_one()
        b, c = self.gated(rig, 2)
        urgent = rig.put_one(tied(Ties(gates=ALONE), new_job(priority=50)))
        assert rig.claim() == []
        order = []
        for _ in range(3):
            rig.settle(running, Done(b"1"))
            running = rig.take_one()
            order.append(running.id)
        assert order == [urgent, b, c]

    @pytest.mark.parametrize("how", ["done", "dead", "again", "released", "crashed"])
    def test_every_way_out_of_running_frees_the_place(self, rig: Rig, how: str) -> None:
        a, b = self.gated(rig, 2)
        claimed = rig.take_one()
        assert rig.claim() == []
        match how:
            case "done":
                rig.settle(claimed, Done(b"1"))
            case "dead":
                rig.settle(claimed, DEAD)
            case "again":
                rig.settle(claimed, Again(600.0, (new_failure(),)))
            case "released":
                rig.settle(claimed, Release(600.0))
            case _:
                rig.advance(rig.broker.terms.lease + 1)
                rig.tend(rescue=True)
        rig.take_one()
        assert rig.claim() == []
        assert {a, b} >= {claimed.id}

    def test_a_held_job_can_be_cancelled_and_the_others_go_on(self, rig: Rig) -> None:
        a, b, c = self.gated(rig, 3)
        running = rig.take_one()
        assert rig.claim() == []
        assert rig.store.cancel([b]) == [State.CANCELLED]
        rig.settle(running, Done(b"1"))
        assert (ids(rig.take(1)), running.id) == ([c], a)

    def test_a_place_is_not_lost_with_the_job_that_was_to_take_it(self, rig: Rig) -> None:
        a, b, c = self.gated(rig, 3)
        running = rig.take_one()
        assert rig.claim() == []
        rig.settle(running, Done(b"1"))
        rig.store.cancel([b])  # let go by the settle, and not claimed yet
        assert (ids(rig.take(1)), running.id) == ([c], a)

    def test_a_job_passes_all_its_gates_or_none(self, rig: Rig) -> None:
        both = (Gate("c:x", most=1), Gate("c:y", most=1))
        a, b = self.gated(rig, 2, both)
        running = rig.take_one()
        [y] = self.gated(rig, 1, both[1:])
        assert (rig.claim(), running.id) == ([], a)
        rig.settle(running, Done(b"1"))
        assert ids(rig.take(1)) == [b]
        rig.find_closed(y)

    def test_a_settle_and_a_claim_in_one_exchange_hand_the_place_on(self, rig: Rig) -> None:
        a, b = self.gated(rig, 2)
        running = rig.take_one()
        assert rig.claim() == []
        answer = rig.exchange([Settlement(running.id, running.claim_id, Done(b"1"))], limit=10)
        assert (answer.answers, ids(answer.claimed), running.id) == ([Answer.DONE], [b], a)

    def test_held_jobs_are_counted_and_found(self, rig: Rig) -> None:
        a, b = self.gated(rig, 2)
        rig.take_one()
        rig.find_closed(b)
        assert [r.id for r in rig.store.find(Filter(states=(State.HELD,))).records] == [b]
        assert sorted(c.state for c in rig.store.counts()) == [State.HELD, State.RUNNING]
        assert rig.record(a).state is State.RUNNING

    def test_a_keyed_flood_does_not_hold_back_another_key(self, rig: Rig) -> None:
        self.gated(rig, 300)
        other = rig.put_one(tied(Ties(gates=(Gate("c:other", most=1),))))
        taken: list[str] = []
        while other not in taken:
            taken += ids(rig.take(1))
        assert len(taken) <= 2

    # ---- rates ------------------------------------------------------------------------------------------------------

    def test_jobs_start_no_faster_than_their_rate(self, rig: Rig) -> None:
        rig.need("defer")
        jobs = self.gated(rig, 4, (Gate("r:slow", rate=1 / 60, burst=2),))
        assert ids(rig.take(2)) == jobs[:2]
        assert rig.claim() == []
        assert rig.exchange(limit=10).next_due == about(60.0)
        rig.advance(61)
        rig.tend(rescue=False)  # a pair looks at its gates then
        assert ids(rig.take(1)) == jobs[2:3]
        assert rig.claim() == []
        rig.advance(61)
        rig.tend(rescue=False)
        assert ids(rig.take(1)) == jobs[3:]

    def test_a_burst_comes_back_with_rest_and_no_more_than_it(self, rig: Rig) -> None:
        gates = (Gate("r:slow", rate=1 / 60, burst=2),)
        self.gated(rig, 2, gates)
        rig.take(2)
        rig.advance(3600)
        self.gated(rig, 5, gates)
        rig.take(2)
        assert rig.claim() == []

    # ---- turns ------------------------------------------------------------------------------------------------------

    def test_a_flood_of_one_fair_key_does_not_hold_back_the_job_of_another(self, rig: Rig) -> None:
        rig.need("fair")
        flood = rig.put(*of("a", 100))
        [other] = rig.put(*of("b"))
        assert ids(rig.take(3)) == [flood[0], other, flood[1]]
        assert ids(rig.take(98)) == flood[2:]

    def test_fair_keys_take_turns_each_in_its_own_order(self, rig: Rig) -> None:
        rig.need("fair")
        lines = [rig.put(*of(tenant, 10)) for tenant in "ab"]
        lines.append([job_id for _ in range(10) for job_id in rig.put(*of("c"))])
        assert ids(rig.take(30)) == [job_id for turn in zip(*lines, strict=True) for job_id in turn]

    def test_fair_keys_take_turns_within_a_batch(self, rig: Rig) -> None:
        rig.need("fair")
        a, b = of("a", 3), of("b", 2)
        rig.put(*a, *b)
        assert ids(rig.take(5)) == [a[0].id, b[0].id, a[1].id, b[1].id, a[2].id]

    def test_whoever_comes_while_others_are_served_is_level_with_them(self, rig: Rig) -> None:
        rig.need("fair")
        a = rig.put(*of("a", 8))
        rig.settle_all(rig.take(4), Done(b"1"))
        b = rig.put(*of("b", 2))
        assert ids(rig.take(6)) == [a[4], b[0], a[5], b[1], *a[6:]]

    def test_whoever_was_served_is_not_punished_for_it(self, rig: Rig) -> None:
        rig.need("fair")
        rig.put(*of("a", 100))
        rig.settle_all(rig.take(100), Done(b"1"))
        b, a = rig.put(*of("b", 3)), rig.put(*of("a"))
        assert ids(rig.take(4)) == [b[0], *a, *b[1:]]

    def test_turns_are_taken_among_jobs_of_the_same_priority(self, rig: Rig) -> None:
        rig.need("fair")
        rig.need_priorities()
        a = rig.put(*of("a", 3))
        urgent = rig.put(*of("a", 2, new_job(priority=50)))
        other = rig.put(*of("b", 1, new_job(priority=50)))
        low = rig.put(*of("b", 1, new_job(priority=-50)))
        assert ids(rig.take(7)) == [urgent[0], *other, urgent[1], *a, *low]

    def test_a_repeated_enqueue_takes_no_second_turn(self, rig: Rig) -> None:
        rig.need("fair", "idempotent")
        first, second, other = *of("a", 2), *of("b")
        for _ in range(3):
            rig.put(first)
        rig.put(other)
        rig.put(second, first)
        assert ids(rig.take(3)) == [first.id, other.id, second.id]
        assert rig.claim() == []

    def test_a_job_in_its_place_is_like_any_other(self, rig: Rig) -> None:
        rig.need("fair")
        [[job_id], [later]] = rig.put(*of("a")), rig.put(*of("a"))
        record = rig.record(job_id)
        assert (record.state, record.ties, record.due) == (State.READY, None, about(record.enqueued_at))
        released = rig.take_one()
        rig.settle(released, Release())
        assert ids(rig.take(2)) == [job_id, later]

    def test_a_job_with_a_fair_key_that_is_scheduled_comes_in_its_time(self, rig: Rig) -> None:
        rig.need("fair", "defer")
        late = rig.put(*of("b", 1, new_job(delay=60.0)))
        rig.advance(50)
        a = rig.put(*of("a", 2))
        assert rig.record(late[0]).ties is None
        rig.advance(11)
        rig.tend(rescue=False)
        assert ids(rig.take(3)) == [*a, *late]

    def test_fair_keys_go_with_unique_keys_and_gates(self, rig: Rig) -> None:
        rig.need("fair", "unique", "gates")
        one = Unique("k", None, "replace")
        a = rig.put(*of("a", 3, gates=ALONE))
        [first, again] = of("b", 2, unique=one)
        rig.put(first)
        assert rig.offer(again) == [Standing(first.id)]
        last = rig.put(*of("b"))
        taken = rig.take(3)
        assert ids(taken) == [a[0], first.id, *last]
        assert rig.claim() == []
        rig.settle_all(taken, Done(b"1"))
        assert ids(rig.take(1)) == [a[1]]

    # ---- what must not be left --------------------------------------------------------------------------------------

    def test_gates_hold_with_jobs_that_have_none(self, rig: Rig) -> None:
        rig.need("gates")
        rig.put(*(new_job() if n % 2 else tied(Ties(gates=ALONE)) for n in range(10)))
        assert len(rig.take(6)) == 6
        assert rig.claim() == []
