"""The async face of enqueue: many coroutines, few round trips."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence

import msgspec
import pytest

from outwork import Outwork
from outwork.brokers.base import Accepted
from outwork.brokers.memory import MemoryBroker
from outwork.client.flusher import Flusher
from outwork.errors import BrokerUnavailable, NotSerializable
from outwork.ids import new_job_id
from outwork.job import Job
from support.inside import memory_app
from support.waiting import until


def a_job() -> Job:
    return Job(v=1, id=new_job_id(), task="t", args=msgspec.Raw(b"{}"))


class Slow(MemoryBroker):
    """Counts its round trips; each waits for the gate."""

    def __init__(self) -> None:
        super().__init__("memory:")
        self.batches: list[int] = []
        self.gate = threading.Event()

    def enqueue(self, jobs: Sequence[Job]) -> list[Accepted]:
        self.batches.append(len(jobs))
        self.gate.wait(30)
        return super().enqueue(jobs)


def test_concurrent_coroutines_share_round_trips() -> None:
    broker = Slow()
    app = Outwork(broker=broker)

    @app.task
    def tiny(number: int) -> None: ...

    async def main() -> list[str]:
        pending = [asyncio.create_task(tiny.aenqueue(number)) for number in range(500)]
        while not broker.batches:
            await asyncio.sleep(0.001)
        broker.gate.set()
        return [result.id for result in await asyncio.gather(*pending)]

    made = asyncio.run(main())
    assert sum(broker.batches) == 500
    assert len(broker.batches) <= 3
    assert [record.id for record in broker.results] == made
    app.close()


def test_the_event_loop_is_not_blocked() -> None:
    broker = Slow()
    app = Outwork(broker=broker)

    @app.task
    def tiny() -> None: ...

    async def main() -> None:
        pending = asyncio.create_task(tiny.aenqueue())
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert not pending.done()
        broker.gate.set()
        await pending

    asyncio.run(main())
    app.close()


def test_a_batch_has_an_upper_limit() -> None:
    sizes: list[int] = []
    gate = threading.Event()

    def send(jobs: Sequence[Job]) -> list[Accepted]:
        sizes.append(len(jobs))
        gate.wait(30)
        return [None] * len(jobs)

    flusher = Flusher(send)

    async def main() -> None:
        pending = [asyncio.create_task(flusher.enqueue(a_job())) for _ in range(2_500)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*pending)

    asyncio.run(main())
    assert sum(sizes) == 2_500
    assert max(sizes) <= 1_000
    flusher.close()


def test_each_job_gets_its_own_answer() -> None:
    refusal = NotSerializable("this one not")

    def send(jobs: Sequence[Job]) -> list[Accepted]:
        return [refusal if job.task == "bad" else None for job in jobs]

    flusher = Flusher(send)

    async def main() -> None:
        good, bad = a_job(), msgspec.structs.replace(a_job(), task="bad")
        answers = await asyncio.gather(*(flusher.enqueue(job) for job in (good, bad, good)), return_exceptions=True)
        assert answers == [None, refusal, None]

    asyncio.run(main())
    flusher.close()


def test_a_broker_that_is_away_is_said_to_all_and_the_thread_goes_on() -> None:
    app, broker = memory_app()

    def away(jobs: Sequence[Job]) -> list[Accepted]:
        raise BrokerUnavailable("the cable is out")

    @app.task
    def tiny() -> None: ...

    async def main() -> None:
        working = broker.enqueue
        broker.enqueue = away  # type: ignore[method-assign]
        answers = await asyncio.gather(*(tiny.aenqueue() for _ in range(5)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [BrokerUnavailable] * 5
        broker.enqueue = working  # type: ignore[method-assign]
        await tiny.aenqueue()

    asyncio.run(main())
    assert len(broker.results) == 1
    app.close()


def test_a_cancelled_coroutine_may_have_enqueued_and_harms_nobody() -> None:
    broker = Slow()
    app = Outwork(broker=broker)

    @app.task
    def tiny() -> None: ...

    async def main() -> None:
        leaving = asyncio.create_task(tiny.aenqueue())
        staying = asyncio.create_task(tiny.aenqueue())
        while not broker.batches:
            await asyncio.sleep(0.001)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        broker.gate.set()
        await staying

    asyncio.run(main())
    assert len(broker.results) == 2
    app.close()


def test_a_loop_that_is_closed_meanwhile_harms_nobody() -> None:
    broker = Slow()
    app = Outwork(broker=broker)

    @app.task
    def tiny() -> None: ...

    async def leave() -> None:
        pending = asyncio.create_task(tiny.aenqueue())
        while not broker.batches:
            await asyncio.sleep(0.001)
        pending.cancel()

    asyncio.run(leave())
    broker.gate.set()
    until(lambda: len(broker.results) == 1, "the job of the loop that is gone")

    async def again() -> None:
        await tiny.aenqueue()

    asyncio.run(again())
    assert len(broker.results) == 2
    app.close()


def test_close_sends_what_waits_and_it_can_be_used_again() -> None:
    _, broker = memory_app()
    flusher = Flusher(broker.enqueue)
    before = set(threading.enumerate())

    async def main() -> None:
        await flusher.enqueue(a_job())
        flusher.close()
        await flusher.enqueue(a_job())

    asyncio.run(main())
    flusher.close()
    flusher.close()
    assert len(broker.results) == 2
    assert set(threading.enumerate()) <= before


def test_a_close_while_others_enqueue_ends() -> None:
    """The next enqueue starts a thread of its own; the one that is being closed must not take over."""
    broker = Slow()
    flusher = Flusher(broker.enqueue)
    closing = threading.Thread(target=flusher.close)

    async def main() -> None:
        first = asyncio.create_task(flusher.enqueue(a_job()))
        while not broker.batches:
            await asyncio.sleep(0.001)
        closing.start()
        while flusher._thread is not None:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(flusher.enqueue(a_job()))
        await asyncio.sleep(0)
        broker.gate.set()
        await asyncio.gather(first, second)
        await asyncio.to_thread(closing.join, 10)
        assert not closing.is_alive()

    asyncio.run(main())
    flusher.close()


def test_a_forked_child_starts_empty(tmp_path: object) -> None:
    """What waits at the fork is the parent's to send; the child's own jobs go through a thread of its own."""
    broker = Slow()
    sent: list[int] = []
    reader, writer = os.pipe()

    def send(jobs: Sequence[Job]) -> list[Accepted]:
        if os.getpid() != parent:
            os.write(writer, f"{len(jobs)} ".encode())
            return [None] * len(jobs)
        sent.append(len(jobs))
        broker.gate.wait(30)
        return [None] * len(jobs)

    parent = os.getpid()
    flusher = Flusher(send)

    async def in_child() -> None:
        await asyncio.wait_for(asyncio.gather(*(flusher.enqueue(a_job()) for _ in range(2))), 20)

    async def main() -> None:
        first = asyncio.create_task(flusher.enqueue(a_job()))
        while not sent:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(flusher.enqueue(a_job()))
        await asyncio.sleep(0)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                thread = threading.Thread(target=lambda: asyncio.run(in_child()))
                thread.start()
                thread.join(60)
                flusher.close()
                code = int(thread.is_alive())
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        broker.gate.set()
        await asyncio.gather(first, second)

    asyncio.run(main())
    os.close(writer)
    said = os.read(reader, 1000).split()
    os.close(reader)
    assert sum(map(int, said)) == 2, "two jobs, both of them the child's"
    assert sent == [1, 1]
    flusher.close()
