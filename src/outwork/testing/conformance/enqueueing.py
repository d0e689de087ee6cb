"""Promises of `enqueue`: durable, idempotent, batch by batch."""

from __future__ import annotations

from functools import partial
from itertools import islice

from outwork import codec
from outwork.job import Answer, Done, Job, State
from outwork.testing.conformance.rig import DEFAULT_SHARES, Background, Promises, Rig, ids, new_job, shares


class EnqueueingPromises(Promises):
    def test_an_enqueued_job_can_be_claimed(self, rig: Rig) -> None:
        job_id = rig.put_one()
        claimed = rig.take_one()
        assert (claimed.id, claimed.attempt, claimed.errors) == (job_id, 1, ())

    def test_a_job_arrives_as_it_was_enqueued(self, rig: Rig) -> None:
        job = new_job(
            "shop.mail.send",
            args='{"to":"zoë@example.org","text":"line\\nline \\u0000","n":[1,2.5,null,true]}'.encode(),
            expires=3600.0,
            max_crashes=7,
            carried={"trace": "00-abc-01", "language": "日本語"},
        )
        rig.put(job)
        assert codec.decode_job(rig.take_one().body) == job

    def test_the_record_of_a_new_job_says_what_was_asked_for(self, rig: Rig) -> None:
        rig.need_priorities()
        job = new_job("shop.pay", queue="money", priority=42, max_crashes=1, at_most_once=True, expires=60.0)
        rig.put(job)
        record = rig.record(job.id)
        assert (record.id, record.task, record.queue, record.priority) == (job.id, "shop.pay", "money", 42)
        assert (record.state, record.max_crashes, record.at_most_once) == (State.READY, 1, True)
        assert (record.failures, record.crashes, record.misses, record.attempts) == (0, 0, 0, 0)
        assert (record.claim_id, record.lease_until, record.started_at, record.finished_at) == (None, None, None, None)
        assert (record.result, record.errors, record.cancel_requested, record.prune_at) == (None, (), False, None)
        assert record.enqueued_at == record.due
        assert record.expires_at == record.due + 60
        assert codec.decode_job(record.body) == job

    def test_an_enqueue_repeated_adds_nothing(self, rig: Rig) -> None:
        rig.need("idempotent")
        job = new_job()
        rig.put(job)
        rig.put(job)
        assert ids(rig.claim()) == [job.id]

    def test_a_job_twice_in_one_batch_is_one_job(self, rig: Rig) -> None:
        rig.need("idempotent")
        job, other = new_job(), new_job()
        assert rig.offer(job, other, job) == [None, None, None]
        assert ids(rig.claim()) == [job.id, other.id]

    def test_an_enqueue_repeated_leaves_the_first_as_it_is(self, rig: Rig) -> None:
        rig.need("idempotent")
        rig.need_priorities()
        job_id = rig.put_one(new_job("first", priority=1))
        before = rig.record(job_id)
        rig.put(new_job("second", job_id=job_id, priority=2, delay=60.0))
        assert rig.record(job_id) == before

    def test_an_enqueue_repeated_while_the_job_runs_adds_nothing(self, rig: Rig) -> None:
        rig.need("idempotent")
        job = new_job()
        rig.put(job)
        claimed = rig.take_one()
        rig.put(job)
        assert rig.claim() == []
        assert rig.settle(claimed, Done(b"1")) is Answer.DONE

    def test_an_enqueue_repeated_soon_after_the_end_adds_nothing_however_short_its_result_is_kept(
        self, rig: Rig
    ) -> None:
        rig.need("idempotent")
        job = new_job()
        rig.end(Done(b"1", keep=0.0), job)
        rig.advance(590)
        rig.tend()
        rig.put(job)
        assert rig.claim() == []

    def test_one_refusal_does_not_fail_its_batch(self, rig: Rig) -> None:
        first, last = new_job(), new_job()
        answers = rig.offer(first, self.refused_job(), last)
        assert [answer is None for answer in answers] == [True, False, True]
        assert sorted(ids(rig.take(2))) == sorted([first.id, last.id])

    def test_an_empty_batch_is_fine(self, rig: Rig) -> None:
        assert rig.offer() == []

    def test_ten_thousand_jobs_in_one_call_are_all_accepted_in_order(self, rig: Rig) -> None:
        jobs = rig.put(*(new_job() for _ in range(10_000)))
        taken: list[str] = []
        while batch := rig.take(min(1000, len(jobs) - len(taken))):
            taken += ids(batch)
        assert taken == jobs

    def test_a_payload_of_a_mebibyte_passes(self, rig: Rig) -> None:
        args = b'{"x":"' + b"\xc3\xa9" * (512 * 1024) + b'"}'
        job = new_job(args=args)
        rig.put(job)
        assert bytes(codec.decode_job(rig.take_one().body).args) == args

    def test_a_result_of_a_mebibyte_passes(self, rig: Rig) -> None:
        result = b'"' + b"r" * 1024 * 1024 + b'"'
        assert rig.record(rig.end(Done(result))).result == result

    def test_a_job_survives_the_object_that_enqueued_it(self, rig: Rig) -> None:
        rig.need("durable")
        producer = rig.another()
        job_id = producer.put_one()
        producer.broker.close()
        assert rig.take_one().id == job_id

    def test_a_job_can_be_claimed_through_another_object(self, rig: Rig) -> None:
        job_id = rig.put_one()
        assert rig.another().take_one().id == job_id

    def test_many_threads_may_enqueue_at_once(self, rig: Rig) -> None:
        batches = [[new_job() for _ in range(50)] for _ in range(8)]

        def one_by_one(batch: list[Job]) -> None:
            for job in batch:
                rig.put(job)

        threads = [Background(partial(one_by_one, batch)) for batch in batches]
        for thread in threads:
            thread.result()
        assert sorted(ids(rig.take(400))) == sorted(job.id for batch in batches for job in batch)

    def test_a_body_that_nobody_can_read_is_handed_out_untouched(self, rig: Rig) -> None:
        garbage = b"\x00\xff{not json\xfe"
        job_id = rig.put_one()
        self.plant_garbage(rig.broker, job_id, garbage)
        neighbour = rig.put_one()
        claimed = rig.take(2)
        assert ids(claimed) == [job_id, neighbour]
        assert claimed[0].body == garbage

    def test_the_queues_with_jobs_are_known(self, rig: Rig) -> None:
        assert rig.broker.queues() == []
        rig.put(new_job(queue="mail"), new_job(queue="mail"), new_job(queue="näher #1"))
        assert sorted(rig.broker.queues()) == ["mail", "näher #1"]

    def test_a_queue_may_have_any_name(self, rig: Rig) -> None:
        names = ["a b", "a'b", 'a"b', "a:b", "{a}", "a.b", "ä", "%s", "x" * 100]
        rig.put(*(new_job(queue=name) for name in names))
        for name in names:
            assert len(rig.take(1, queues=shares(name))) == 1
        assert rig.claim(queues=[*DEFAULT_SHARES, *islice(shares(*names), 3)]) == []
