"""Tests of an application with tasks, without a server or a worker."""

import asyncio
from datetime import timedelta

from outwork import State
from outwork.testing import Clock, Inline, LocalWorker, Recorder
from signup import MEMBERS, OUTBOX, MailServer, ask, send_mail, sign_up


def test_the_right_jobs_are_enqueued(outwork_recorder: Recorder) -> None:
    sign_up("ada@example.com")
    outwork_recorder.assert_enqueued(send_mail, "ada@example.com", subject="Welcome")
    outwork_recorder.assert_enqueued(ask.using(run_after=timedelta(days=1)), "ada@example.com")
    assert OUTBOX == []


def test_a_mail_is_sent(outwork_inline: Inline) -> None:
    send_mail.enqueue("ada@example.com", "Hello")
    assert OUTBOX == [("ada@example.com", "Hello")]


def test_a_mail_server_that_is_away(outwork_worker: LocalWorker) -> None:
    MailServer.refuses = 2
    result = send_mail.enqueue("ada@example.com", "Hello")
    assert outwork_worker.drain() == 3
    result.refresh()
    assert result.state is State.SUCCESSFUL
    assert [error.message for error in result.errors] == ["try again later"] * 2


def test_the_question_comes_a_day_later(outwork_worker: LocalWorker, outwork_clock: Clock) -> None:
    sign_up("ada@example.com")
    sign_up("bob@example.com")
    outwork_worker.drain()
    MEMBERS.remove("bob@example.com")

    outwork_clock.move(timedelta(hours=23))
    assert outwork_worker.drain() == 0
    outwork_clock.move(timedelta(hours=1))
    outwork_worker.drain()
    assert OUTBOX[-1] == ("ada@example.com", "How is it going?")
    assert ("bob@example.com", "How is it going?") not in OUTBOX


def test_in_an_event_loop(outwork_worker: LocalWorker) -> None:
    async def scenario() -> None:
        MEMBERS.add("ada@example.com")
        await ask.aenqueue("ada@example.com")
        assert await outwork_worker.adrain() == 2

    asyncio.run(scenario())
    assert OUTBOX == [("ada@example.com", "How is it going?")]
