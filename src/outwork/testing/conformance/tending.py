"""Promises of `tend`, `leave` and `workers`: who is there, and that what has ended is forgotten after its time."""

from __future__ import annotations

from msgspec.structs import replace

from outwork.brokers.base import Settlement
from outwork.job import TOMBSTONE_SECONDS, Again, Cancelled, Dead, Done, State, Terms
from outwork.testing.conformance.rig import Promises, Rig, about, new_failure, new_job, new_presence, shares

HOUR = 3600.0


class TendingPromises(Promises):
    # ---- presence ----

    def test_a_worker_that_tends_is_seen(self, rig: Rig) -> None:
        rig.need("presence")
        presence = new_presence(queues=("default", "mail"))
        rig.broker.tend(presence, rescue=False)
        [seen] = rig.another().broker.workers()
        assert seen.seen_at == about(rig.broker.now())
        assert replace(seen, seen_at=0.0) == presence

    def test_a_worker_is_seen_as_it_tended_last(self, rig: Rig) -> None:
        rig.need("presence")
        presence = new_presence()
        rig.broker.tend(presence, rescue=False)
        rig.advance(60)
        rig.broker.tend(replace(presence, running=9, done=2000), rescue=False)
        [seen] = rig.broker.workers()
        assert (seen.running, seen.done, seen.seen_at) == (9, 2000, about(rig.broker.now()))

    def test_tending_without_a_presence_writes_none(self, rig: Rig) -> None:
        rig.need("presence")
        rig.broker.tend(None, rescue=True)
        assert rig.broker.workers() == []

    def test_a_worker_that_leaves_is_forgotten_and_the_others_are_not(self, rig: Rig) -> None:
        rig.need("presence")
        for worker in ("worker-1", "worker-2"):
            rig.broker.tend(new_presence(worker), rescue=False)
        rig.broker.leave("worker-1")
        rig.broker.leave("unheard-of")
        assert [seen.worker for seen in rig.broker.workers()] == ["worker-2"]

    def test_a_silent_worker_is_forgotten_after_its_time(self, rig: Rig) -> None:
        rig.need("presence")
        rig.broker.tend(new_presence("silent", ttl=60.0), rescue=False)
        rig.broker.tend(new_presence("patient", ttl=600.0), rescue=False)
        rig.advance(50)
        assert len(rig.broker.workers()) == 2
        rig.advance(20)
        assert [seen.worker for seen in rig.broker.workers()] == ["patient"]

    def test_a_silent_worker_does_not_come_back(self, rig: Rig) -> None:
        rig.need("presence")
        rig.broker.tend(new_presence("silent", ttl=60.0), rescue=False)
        rig.advance(70)
        rig.broker.tend(new_presence("worker-2"), rescue=False)
        assert [seen.worker for seen in rig.broker.workers()] == ["worker-2"]

    def test_a_dead_worker_is_no_longer_seen(self, rig: Rig) -> None:
        rig.need("presence")
        for worker in ("dead", "alive"):
            rig.broker.tend(new_presence(worker), rescue=False)
        rig.broker.tend(new_presence("alive"), rescue=False, dead=["dead"])
        assert [seen.worker for seen in rig.broker.workers()] == ["alive"]

    # ---- retention ----

    def test_a_result_is_kept_as_long_as_the_terms_say(self, rig: Rig) -> None:
        rig = rig.another(Terms(keep=2 * HOUR))
        job_id = rig.end(Done(b"1"))
        rig.advance(2 * HOUR - 60)
        rig.tend()
        assert rig.record(job_id).result == b"1"
        rig.advance(120)
        rig.tend()
        assert rig.store.get([job_id]) == [None]

    def test_a_failed_or_cancelled_job_is_kept_for_its_own_time(self, rig: Rig) -> None:
        rig = rig.another(Terms(keep=HOUR, keep_failed=3 * HOUR))
        failed, stopped = rig.end(Dead((new_failure(),))), rig.end(Cancelled())
        withdrawn, expired = rig.put(new_job(), new_job(expires=0.001))
        rig.store.cancel([withdrawn])
        rig.advance(60)
        rig.tend()
        rig.advance(3 * HOUR - 120)
        rig.tend()
        states = [rig.record(job_id).state for job_id in (failed, stopped, withdrawn, expired)]
        assert states == [State.FAILED, State.CANCELLED, State.CANCELLED, State.FAILED]
        rig.advance(240)
        rig.tend()
        assert rig.store.get([failed, stopped, withdrawn, expired]) == [None] * 4

    def test_a_job_may_be_kept_for_a_time_of_its_own(self, rig: Rig) -> None:
        long = rig.end(Done(b"1", keep=30 * 86_400.0))
        short = rig.end(Done(b"1", keep=HOUR))
        failed = rig.end(Dead((new_failure(),), keep=HOUR))
        rig.advance(20 * 86_400.0)
        rig.tend()
        assert [record is not None for record in rig.store.get([long, short, failed])] == [True, False, False]

    def test_a_job_hardly_kept_is_forgotten_after_ten_minutes(self, rig: Rig) -> None:
        job = new_job()
        rig.end(Done(b"1", keep=0.0), job)
        rig.advance(TOMBSTONE_SECONDS + 60)
        rig.tend()
        assert rig.store.get([job.id]) == [None]
        rig.put(job)
        assert rig.take_one().id == job.id

    def test_what_waits_or_runs_is_never_forgotten(self, rig: Rig) -> None:
        rig.need("defer", "results")
        scheduled = rig.put_one(new_job(queue="a", delay=10 * 365 * 86_400.0))
        running = rig.put_one(new_job(queue="b"))
        rig.take_one(queues=shares("b"))
        again = rig.put_one(new_job(queue="c"))
        rig.settle(rig.take_one(queues=shares("c")), Again(0.0))
        ready = rig.put_one()
        rig.advance(365 * 86_400.0)
        rig.tend(rescue=False)
        states = [rig.record(job_id).state for job_id in (scheduled, running, again, ready)]
        assert states == [State.SCHEDULED, State.RUNNING, State.READY, State.READY]

    def test_a_job_retried_by_hand_is_not_forgotten_at_the_time_set_before(self, rig: Rig) -> None:
        job_id = rig.end(Dead((new_failure(),), keep=HOUR))
        rig.store.retry([job_id])
        rig.advance(2 * HOUR)
        rig.tend()
        assert rig.take_one().id == job_id

    def test_thousands_of_old_jobs_are_all_forgotten(self, rig: Rig) -> None:
        rig.need("results")
        rig = rig.another(Terms(keep=HOUR))
        rig.put(*(new_job() for _ in range(2500)))
        rig.exchange([Settlement(job.id, job.claim_id, Done(b"1")) for job in rig.take(2500)])
        rig.advance(HOUR + 60)
        assert rig.tend().pruned == 2500
        assert rig.store.counts() == []
