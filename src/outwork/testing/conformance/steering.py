"""Promises of what is steered from outside: pauses, orders, progress, schedules."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from outwork.brokers.base import Orders, Report
from outwork.job import Done, Hold, State
from outwork.testing.conformance.rig import Promises, Rig, ids, new_job


class SteeringPromises(Promises):
    # ---- pause ------------------------------------------------------------------------------------------------------

    def test_what_is_paused_is_told_to_every_worker_until_it_is_resumed(self, rig: Rig) -> None:
        rig.need("pause")
        other = rig.another()
        assert rig.broker.orders("worker-1") == Orders()
        rig.store.pause("queue:mail")
        rig.store.pause("queue:mail")
        rig.store.pause("task:suite.task")
        paused = frozenset({"queue:mail", "task:suite.task"})
        assert other.broker.orders("worker-2") == Orders(paused)
        other.store.resume("queue:mail")
        other.store.resume("queue:never-paused")
        assert rig.broker.orders("worker-1") == Orders(frozenset({"task:suite.task"}))

    def test_a_job_of_a_paused_task_is_held_until_the_task_goes_on(self, rig: Rig) -> None:
        rig.need("pause")
        job_id = rig.put_one()
        rig.store.pause("task:suite.task")
        rig.settle(rig.take_one(), Hold())
        assert (rig.claim(), rig.record(job_id).state) == ([], State.HELD)
        rig.store.resume("task:suite.task")
        claimed = rig.take_one()
        assert (claimed.id, claimed.failures, claimed.crashes, claimed.attempt) == (job_id, 0, 0, 1)

    def test_a_job_held_for_a_pause_that_is_over_is_ready(self, rig: Rig) -> None:
        rig.need("pause")
        job_id = rig.put_one()
        rig.settle(rig.take_one(), Hold())
        assert ids(rig.take(1)) == [job_id]

    def test_many_jobs_of_a_paused_task_come_back(self, rig: Rig) -> None:
        rig.need("pause")
        jobs = rig.put(*(new_job() for _ in range(1200)))
        rig.store.pause("task:suite.task")
        for _ in range(3):
            rig.settle_all(rig.take(400), Hold())
        rig.store.resume("task:suite.task")
        for _ in range(10):
            rig.tend(rescue=False)
        assert sorted(ids(rig.take(1200))) == sorted(jobs)

    # ---- orders -----------------------------------------------------------------------------------------------------

    def test_a_worker_is_told_which_of_its_jobs_are_to_stop(self, rig: Rig) -> None:
        rig.need("pause", "cancel")
        a, b = rig.put(new_job(), new_job())
        first = rig.take_one(worker="worker-1")
        second = rig.take_one(worker="worker-2")
        rig.store.cancel([a, b])
        assert rig.broker.orders("worker-1") == Orders(cancel=frozenset({first.id}))
        assert rig.broker.orders("worker-2") == Orders(cancel=frozenset({second.id}))
        assert rig.broker.orders("worker-3") == Orders()

    # ---- progress ---------------------------------------------------------------------------------------------------

    def test_a_running_job_says_how_far_it_is(self, rig: Rig) -> None:
        rig.need("progress")
        a, b = rig.put(new_job(), new_job())
        claimed = rig.take(2)
        assert rig.store.progress([a, b]) == [None, None]
        rig.store.report([Report(a, claimed[0].claim_id, b'{"done":1}')])
        rig.store.report([Report(a, claimed[0].claim_id, b'{"done":2}'), Report(b, claimed[1].claim_id, b"{}")])
        assert rig.another().store.progress([b, a, new_job().id]) == [b"{}", b'{"done":2}', None]
        rig.settle(claimed[0], Done(b"1"))
        assert rig.store.progress([a]) == [b'{"done":2}']
        rig.store.delete([a])
        assert rig.store.progress([a]) == [None]

    def test_who_lost_the_job_reports_nothing(self, rig: Rig) -> None:
        rig.need("progress")
        job_id = rig.put_one()
        lost = rig.take_one()
        rig.advance(rig.broker.terms.lease + 1)
        rig.tend(rescue=True)
        rig.store.report([Report(job_id, lost.claim_id, b'"zombie"')])
        now = rig.take_one()
        rig.store.report([Report(job_id, lost.claim_id, b'"zombie"')])
        assert rig.store.progress([job_id]) == [None]
        rig.store.report([Report(job_id, now.claim_id, b'"here"')])
        assert rig.store.progress([job_id]) == [b'"here"']

    # ---- schedules --------------------------------------------------------------------------------------------------

    def test_a_slot_is_fired_once(self, rig: Rig) -> None:
        rig.need("periodic")
        assert rig.store.schedules() == {}
        assert rig.store.tick("nightly", None, 100.0, [])
        assert not rig.store.tick("nightly", None, 100.0, [new_job()])
        assert rig.store.tick("nightly", 100.0, 200.0, [new_job("suite.nightly")])
        assert not rig.another().store.tick("nightly", 100.0, 200.0, [new_job("suite.nightly")])
        assert rig.store.schedules() == {"nightly": 200.0}
        rig.take_one()
        assert rig.claim() == []

    def test_schedules_do_not_mix(self, rig: Rig) -> None:
        rig.need("periodic")
        assert rig.store.tick("a", None, 100.5, [])
        assert rig.store.tick("b", None, 300.25, [new_job(), new_job()])
        assert rig.store.schedules() == {"a": 100.5, "b": 300.25}
        rig.take(2)

    def test_of_many_that_fire_a_slot_at_once_one_does(self, rig: Rig) -> None:
        rig.need("periodic")
        rigs = [rig.another() for _ in range(4)]
        rig.store.tick("busy", None, 0.0, [])
        fired = 0
        with ThreadPoolExecutor(4) as pool:
            for slot in range(1, 11):
                ticks = [pool.submit(r.store.tick, "busy", slot - 1.0, float(slot), [new_job()]) for r in rigs]
                fired += sum(tick.result() for tick in ticks)
        assert (fired, len(rig.take(10)), rig.claim()) == (10, 10, [])
