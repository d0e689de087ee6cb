"""Promises of the store: jobs can be looked up, steered and forgotten."""

from __future__ import annotations

import pytest

from outwork.brokers.base import Count, Filter
from outwork.job import Again, Answer, Cancelled, Dead, Done, Outcome, Release, State
from outwork.testing.conformance.rig import Promises, Rig, about, held, ids, new_failure, new_job, shares

DEAD = Dead((new_failure(),))
ANY_AGE = 0.0
NEVER = 1e9


class StoringPromises(Promises):
    # ---- looking up ----

    def test_get_answers_in_the_order_of_asking(self, rig: Rig) -> None:
        a, b = rig.put(new_job(), new_job())
        records = rig.store.get([b, new_job().id, a, b])
        assert [record and record.id for record in records] == [b, None, a, b]
        assert rig.store.get([]) == []

    def test_ends_are_what_get_gives_of_them(self, rig: Rig) -> None:
        job_ids = [rig.end(Done(b'"\\u0000\xc3\xa9"')), *self.one_of_each(rig)]
        asked = [*job_ids[::-1], new_job().id, job_ids[0]]
        for end, record in zip(rig.store.ends(asked), rig.store.get(asked), strict=True):
            if record is None or record.state is not State.SUCCESSFUL:
                assert end == record
            else:
                assert end is not None
                told = (end.id, end.state, end.task, end.result)
                assert told == (record.id, record.state, record.task, record.result)

    def test_a_record_is_the_same_through_another_object(self, rig: Rig) -> None:
        job_id = rig.end(Done(b"1"))
        assert rig.another().record(job_id) == rig.record(job_id)

    def test_the_newest_jobs_are_found_first(self, rig: Rig) -> None:
        rig.need_priorities()
        jobs = rig.put(*(new_job(priority=priority) for priority in (0, 50, -50)))
        page = rig.store.find(Filter())
        assert ([record.id for record in page.records], page.cursor) == (jobs[::-1], None)

    def test_what_is_found_is_what_get_gives(self, rig: Rig) -> None:
        self.one_of_each(rig)
        records = rig.store.find(Filter()).records
        assert rig.store.get([record.id for record in records]) == records

    def test_pages_hold_every_job_once(self, rig: Rig) -> None:
        jobs = rig.put(*(new_job() for _ in range(25)))
        found: list[str] = []
        cursor: str | None = None
        sizes: list[int] = []
        for _ in range(10):
            page = rig.store.find(Filter(), limit=10, cursor=cursor)
            found += [record.id for record in page.records]
            sizes.append(len(page.records))
            cursor = page.cursor
            if cursor is None:
                break
        assert (found, sizes) == (jobs[::-1], [10, 10, 5])

    def test_a_full_page_that_is_the_last_has_no_cursor(self, rig: Rig) -> None:
        rig.put(*(new_job() for _ in range(10)))
        assert rig.store.find(Filter(), limit=10).cursor is None

    def test_pages_hold_only_what_fits(self, rig: Rig) -> None:
        wanted = rig.put(*(new_job(queue=queue) for queue in "abababab"))[::-2]
        first = rig.store.find(Filter(queue="b"), limit=3)
        second = rig.store.find(Filter(queue="b"), limit=3, cursor=first.cursor)
        assert [record.id for record in first.records + second.records] == wanted
        assert second.cursor is None

    def test_jobs_are_found_by_each_condition_and_by_all_together(self, rig: Rig) -> None:
        x, y, z = rig.put(new_job("t1", queue="a"), new_job("t2", queue="a"), new_job("t1", queue="b"))
        rig.settle(rig.take_one(queues=shares("b")), Done(b"1"))
        for which, fitting in [
            (Filter(queue="a"), {x, y}),
            (Filter(task="t1"), {x, z}),
            (Filter(states=(State.READY,)), {x, y}),
            (Filter(states=(State.SUCCESSFUL, State.FAILED)), {z}),
            (Filter(ids=(x, z, new_job().id)), {x, z}),
            (Filter(queue="a", task="t1"), {x}),
            (Filter(states=(State.READY,), task="t1", ids=(y, z)), set()),
            (Filter(queue="nowhere"), set()),
            (Filter(states=()), set()),
            (Filter(ids=()), set()),
        ]:
            assert {record.id for record in rig.store.find(which).records} == fitting, which

    def test_a_job_that_fell_due_is_found_ready(self, rig: Rig) -> None:
        rig.need("defer")
        job_id = rig.put_one(new_job(delay=60.0))
        rig.advance(61)
        assert [r.state for r in rig.store.find(Filter(ids=(job_id,))).records] == [State.READY]
        assert rig.store.find(Filter(states=(State.SCHEDULED,))).records == []
        assert [r.id for r in rig.store.find(Filter(states=(State.READY,))).records] == [job_id]
        assert rig.store.counts() == [Count("default", "suite.task", State.READY, 1)]

    def test_jobs_are_counted_by_queue_task_and_state(self, rig: Rig) -> None:
        assert rig.store.counts() == []
        rig.put(*(new_job("t1", queue="a") for _ in range(3)), new_job("t2", queue="a"), new_job("t1", queue="b"))
        rig.settle(rig.take_one(queues=shares("b")), DEAD)
        rig.take_one(queues=shares("a"))
        assert sorted(rig.store.counts()) == [
            Count("a", "t1", State.READY, 2),
            Count("a", "t1", State.RUNNING, 1),
            Count("a", "t2", State.READY, 1),
            Count("b", "t1", State.FAILED, 1),
        ]

    def test_garbage_is_listed_as_any_job(self, rig: Rig) -> None:
        store = rig.store
        job_id = rig.put_one()
        self.plant_garbage(rig.broker, job_id, b"\x00\xff{")
        assert [record.body for record in store.find(Filter()).records] == [b"\x00\xff{"]
        rig.settle(rig.take_one(), DEAD)
        assert (rig.record(job_id).state, rig.record(job_id).body) == (State.FAILED, b"\x00\xff{")

    # ---- cancel ----

    def test_a_cancelled_job_that_waits_ends_at_once(self, rig: Rig) -> None:
        rig.need("cancel")
        job_id = rig.put_one()
        assert rig.store.cancel([job_id]) == [State.CANCELLED]
        assert rig.claim() == []
        record = rig.record(job_id)
        assert (record.state, record.finished_at) == (State.CANCELLED, about(rig.broker.now()))

    def test_the_outcome_of_an_attempt_before_a_cancel_is_stale(self, rig: Rig) -> None:
        rig.need("cancel", "fenced")
        rig.put_one()
        claimed = rig.take_one()
        rig.settle(claimed, Release())
        rig.store.cancel([claimed.id])
        before = rig.record(claimed.id)
        assert rig.settle(claimed, Done(b"1")) is Answer.STALE
        assert rig.record(claimed.id) == before

    def test_a_cancelled_job_that_is_scheduled_never_falls_due(self, rig: Rig) -> None:
        rig.need("cancel", "defer")
        job_id = rig.put_one(new_job(delay=60.0))
        assert rig.store.cancel([job_id]) == [State.CANCELLED]
        rig.advance(61)
        assert rig.claim() == []
        assert rig.record(job_id).state is State.CANCELLED

    def test_a_cancelled_job_that_runs_is_asked_to_stop(self, rig: Rig) -> None:
        rig.need("cancel")
        rig.put_one()
        claimed = rig.take_one()
        assert rig.store.cancel([claimed.id]) == [State.RUNNING]
        assert rig.record(claimed.id).cancel_requested
        assert rig.broker.extend([held(claimed)]).cancel == {claimed.id}

    @pytest.mark.parametrize(
        ("outcome", "state"),
        [
            (Done(b"1"), State.SUCCESSFUL),
            (DEAD, State.FAILED),
            (Cancelled(), State.CANCELLED),
            (Again(60.0), State.CANCELLED),
            (Again(0.0, counted=False), State.CANCELLED),
            (Release(), State.CANCELLED),
        ],
        ids=lambda value: value.name if isinstance(value, State) else type(value).__name__,
    )
    def test_a_job_asked_to_stop_is_not_started_again(self, rig: Rig, outcome: Outcome, state: State) -> None:
        rig.need("cancel")
        rig.put_one()
        claimed = rig.take_one()
        rig.store.cancel([claimed.id])
        assert rig.settle(claimed, outcome) is Answer.DONE
        rig.advance(61)
        assert rig.claim() == []
        assert rig.record(claimed.id).state is state

    @pytest.mark.parametrize("outcome", [Done(b"1"), DEAD, Cancelled()], ids=lambda value: type(value).__name__)
    def test_a_job_that_has_ended_is_not_cancelled(self, rig: Rig, outcome: Outcome) -> None:
        rig.need("cancel")
        job_id = rig.end(outcome)
        before = rig.record(job_id)
        assert rig.store.cancel([job_id]) == [before.state]
        assert rig.record(job_id) == before

    def test_a_cancel_touches_only_the_jobs_it_names(self, rig: Rig) -> None:
        rig.need("cancel")
        a, b, c = rig.put(new_job(), new_job(), new_job())
        assert rig.store.cancel([a, new_job().id, c]) == [State.CANCELLED, None, State.CANCELLED]
        assert ids(rig.take(1)) == [b]

    # ---- retry ----

    @pytest.mark.parametrize("outcome", [DEAD, Cancelled()], ids=lambda value: type(value).__name__)
    def test_a_job_that_ended_badly_can_be_run_again_from_the_start(self, rig: Rig, outcome: Outcome) -> None:
        failure = new_failure("the first attempt")
        job_id = rig.put_one()
        rig.settle(rig.take_one(), Again(0.0, (failure,)))
        rig.settle(rig.take_one(), outcome)
        history = rig.record(job_id).errors
        assert rig.store.retry([job_id]) == [State.READY]
        record = rig.record(job_id)
        assert (record.state, record.attempts, record.errors) == (State.READY, 0, history)
        assert (record.finished_at, record.prune_at, record.cancel_requested) == (None, None, False)
        claimed = rig.take_one()
        assert (claimed.id, claimed.attempt, claimed.errors) == (job_id, 1, history)
        rig.settle(claimed, Done(b'"at last"'))
        assert (rig.record(job_id).state, rig.record(job_id).result) == (State.SUCCESSFUL, b'"at last"')

    def test_a_buried_job_can_be_run_again_and_may_crash_as_often(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one(new_job(max_crashes=1))
        for _ in range(2):
            for _ in range(2):
                assert rig.record(job_id).state is State.READY
                rig.take_one()
                rig.crash()
            assert rig.record(job_id).state is State.FAILED
            rig.store.retry([job_id])

    def test_a_job_that_was_cancelled_while_it_waited_can_be_run_again(self, rig: Rig) -> None:
        rig.need("cancel")
        job_id = rig.put_one()
        rig.store.cancel([job_id])
        assert rig.store.retry([job_id]) == [State.READY]
        assert rig.take_one().id == job_id

    def test_a_job_that_was_asked_to_stop_and_is_run_again_is_no_longer_asked(self, rig: Rig) -> None:
        rig.need("cancel")
        job_id = rig.put_one()
        claimed = rig.take_one()
        rig.store.cancel([job_id])
        rig.settle(claimed, Cancelled())
        rig.store.retry([job_id])
        claimed = rig.take_one()
        assert rig.broker.extend([held(claimed)]).cancel == frozenset()
        rig.settle(claimed, Again(0.0))
        assert rig.take_one().id == job_id

    def test_only_what_ended_badly_is_retried(self, rig: Rig) -> None:
        rig.need("defer")
        done = rig.end(Done(b"1"))
        running = rig.put_one()
        rig.take_one()
        scheduled, ready = rig.put(new_job(delay=60.0), new_job())
        before = rig.store.get([done, running, scheduled, ready])
        states = rig.store.retry([done, running, scheduled, ready, new_job().id])
        assert states == [State.SUCCESSFUL, State.RUNNING, State.SCHEDULED, State.READY, None]
        assert rig.store.get([done, running, scheduled, ready]) == before

    def test_the_outcome_of_an_attempt_before_a_retry_by_hand_is_stale(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put_one()
        claimed = rig.take_one()
        rig.settle(claimed, DEAD)
        rig.store.retry([claimed.id])
        assert rig.settle(claimed, Done(b"1")) is Answer.STALE
        assert rig.record(claimed.id).state is State.READY

    # ---- delete ----

    def test_what_waits_or_has_ended_can_be_deleted_and_what_runs_cannot(self, rig: Rig) -> None:
        rig.need("defer")
        done, failed = rig.end(Done(b"1")), rig.end(DEAD)
        running = rig.put_one()
        claimed = rig.take_one()
        scheduled, ready = rig.put(new_job(delay=60.0), new_job())
        everything = [done, failed, running, scheduled, ready]
        states = rig.store.delete([*everything, new_job().id])
        assert states == [State.SUCCESSFUL, State.FAILED, State.RUNNING, State.SCHEDULED, State.READY, None]
        assert [record and record.id for record in rig.store.get(everything)] == [None, None, running, None, None]
        rig.advance(61)
        assert rig.claim() == []
        assert rig.settle(claimed, Done(b"1")) is Answer.DONE

    def test_an_outcome_of_a_deleted_job_is_stale(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put_one()
        claimed = rig.take_one()
        rig.settle(claimed, Release())
        rig.store.delete([claimed.id])
        assert rig.settle(claimed, Done(b"1")) is Answer.STALE

    # ---- prune ----

    def test_old_jobs_are_forgotten_each_by_its_own_age(self, rig: Rig) -> None:
        old_done, old_failed = rig.end(Done(b"1")), rig.end(DEAD)
        rig.advance(1000)
        new_done, new_failed, new_cancelled = rig.end(Done(b"1")), rig.end(DEAD), rig.end(Cancelled())
        everything = (old_done, old_failed, new_done, new_failed, new_cancelled)
        assert rig.store.prune(Filter(), older_than=500.0, failed_older_than=NEVER) == 1
        assert self.known(rig, *everything) == {old_failed, new_done, new_failed, new_cancelled}
        assert rig.store.prune(Filter(), older_than=NEVER, failed_older_than=500.0) == 1
        assert self.known(rig, *everything) == {new_done, new_failed, new_cancelled}
        assert rig.store.prune(Filter(), older_than=NEVER, failed_older_than=ANY_AGE) == 2
        assert self.known(rig, *everything) == {new_done}

    def test_what_waits_or_runs_is_not_pruned(self, rig: Rig) -> None:
        everything = self.one_of_each(rig)
        assert rig.store.prune(Filter(), older_than=ANY_AGE, failed_older_than=ANY_AGE) == 3
        left = {rig.record(job_id).state for job_id in self.known(rig, *everything)}
        assert left == {State.SCHEDULED, State.READY, State.RUNNING}

    def test_only_what_fits_is_pruned(self, rig: Rig) -> None:
        a, b = rig.end(Done(b"1"), new_job(queue="a")), rig.end(Done(b"1"), new_job(queue="b"))
        c, d = rig.end(DEAD, new_job("other", queue="a")), rig.end(DEAD)
        prune = rig.store.prune
        assert prune(Filter(queue="a", task="suite.task"), older_than=ANY_AGE, failed_older_than=ANY_AGE) == 1
        assert self.known(rig, a, b, c, d) == {b, c, d}
        assert prune(Filter(states=(State.SUCCESSFUL,)), older_than=ANY_AGE, failed_older_than=ANY_AGE) == 1
        assert self.known(rig, b, c, d) == {c, d}
        assert prune(Filter(ids=(d,)), older_than=ANY_AGE, failed_older_than=ANY_AGE) == 1
        assert self.known(rig, c, d) == {c}

    def test_a_dry_run_counts_all_and_forgets_nothing(self, rig: Rig) -> None:
        jobs = [rig.end(Done(b"1")) for _ in range(5)]
        counted = rig.store.prune(Filter(), older_than=ANY_AGE, failed_older_than=ANY_AGE, limit=2, dry_run=True)
        assert counted == 5
        assert self.known(rig, *jobs) == set(jobs)

    def test_a_prune_forgets_no_more_than_its_limit(self, rig: Rig) -> None:
        jobs = [rig.end(Done(b"1")) for _ in range(5)]
        forgotten = [
            rig.store.prune(Filter(), older_than=ANY_AGE, failed_older_than=ANY_AGE, limit=2) for _ in range(4)
        ]
        assert (forgotten, self.known(rig, *jobs)) == ([2, 2, 1, 0], set())

    # ---- helpers ----

    def one_of_each(self, rig: Rig) -> list[str]:
        """A job in each state."""
        rig.need("defer", "cancel")
        ended = [rig.end(Done(b"1")), rig.end(DEAD), rig.end(Cancelled())]
        running = rig.put_one()
        rig.take_one()
        return [*ended, running, *rig.put(new_job(delay=60.0), new_job())]

    def known(self, rig: Rig, *jobs: str) -> set[str]:
        return {record.id for record in rig.store.get(jobs) if record is not None}
