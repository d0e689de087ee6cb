"""Chains, groups and what follows them: what is refused, what is enqueued, and what each takes from those before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from outwork import GroupResult, MemberFailed, Outwork, State, TaskFailed, TaskResult, chain, group
from outwork.brokers.base import Accepted, Capabilities
from outwork.brokers.memory import MemoryBroker
from outwork.errors import (
    BrokerUnavailable,
    InvalidOption,
    NotSerializable,
    PartlyEnqueued,
    Unsupported,
    WrongArguments,
)
from outwork.events import Event, JobCancelled
from outwork.job import Job
from outwork.task import Task
from outwork.testing.modes import LocalWorker, local_worker
from support.inside import working

app = Outwork()
called: list[str] = []


@app.task(retry=None)
def number(x: int) -> int:
    if x < 0:
        raise ValueError(f"{x} is below zero")
    return x


@app.task(retry=None)
def plus(x: int, y: int = 1) -> int:
    called.append(f"plus {x} {y}")
    return x + y


@app.task(retry=None)
async def twice(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


@app.task(retry=None)
def total(numbers: list[int]) -> int:
    called.append(f"total {numbers}")
    return sum(numbers)


@app.task
def tally(numbers: list[int | MemberFailed]) -> list[str]:
    return [f"{one.exception}: {one.message}" if isinstance(one, MemberFailed) else str(one) for one in numbers]


@app.task
def note() -> None:
    called.append("note")


@app.task
def complain(why: MemberFailed, to: str) -> str:
    return f"{to}: {why.task_name} {why.exception} {why.message}"


@pytest.fixture(autouse=True)
def _forget() -> None:
    called.clear()


@pytest.fixture
def worker() -> Any:
    with local_worker(app) as jobs:
        yield jobs


# ---- chains ----------------------------------------------------------------------------------------------------------


def test_each_step_takes_what_the_one_before_it_returned(worker: LocalWorker) -> None:
    result = chain(number.bind(1), plus.bind(y=10), twice, plus.bind(y=100)).enqueue()
    assert result.state is State.HELD
    assert [job.state for job in worker.jobs].count(State.READY) == 1
    worker.drain()
    assert result.get(0) == 122


@pytest.mark.parametrize(
    ("step", "arguments"),
    [
        (plus.bind(5), "plus 5 1"),
        (plus.bind(5, y=6), "plus 5 6"),
        (plus.bind(y=6), "plus 3 6"),
        (plus.bind(), "plus 3 1"),
        (plus, "plus 3 1"),
        (note, "note"),
    ],
)
def test_only_what_is_missing_is_filled(worker: LocalWorker, step: Any, arguments: str) -> None:
    chain(number.bind(3), step).enqueue()
    worker.drain()
    assert called == [arguments]


def test_a_later_parameter_can_be_the_one_that_is_missing(worker: LocalWorker) -> None:
    @app.task(name="power")
    def power(base: int, exponent: int) -> int:
        return int(base**exponent)

    result = chain(number.bind(3), power.bind(2)).enqueue()
    worker.drain()
    assert result.get(0) == 8


def test_a_step_that_fails_ends_those_after_it_uncalled(worker: LocalWorker) -> None:
    result = chain(number.bind(-1), plus, note).enqueue()
    worker.drain()
    with pytest.raises(TaskFailed, match=r"the first was job \S+ of \S+\.plus") as caught:
        result.get(0)
    assert caught.value.failures[-1].exception == "outwork.errors.UpstreamFailed"
    plus_failed = next(job for job in worker.jobs if job.task_name == plus.name)
    assert plus_failed.state is State.FAILED
    assert "ValueError: -1 is below zero. It was not called" in plus_failed.errors[-1]
    assert called == []


def test_a_cancelled_step_cancels_those_after_it(worker: LocalWorker) -> None:
    heard: list[Event] = []
    app.hooks.on_event(heard.append)
    result = chain(number.bind(1), plus, note).enqueue()
    [first] = worker.find(number)
    app.cancel(first.id)
    worker.drain()
    result.refresh()
    assert {job.state for job in worker.jobs} == {State.CANCELLED}
    with pytest.raises(TaskFailed, match=r"was cancelled: OW158 job \S+ of \S+\.plus, which it comes after, was canc"):
        result.get(0)
    assert len([one for one in heard if isinstance(one, JobCancelled)]) == 3
    assert called == []


def test_cancelling_the_last_job_of_a_chain_cancels_all_of_it(worker: LocalWorker) -> None:
    result = chain(number.bind(1), plus, note).enqueue()
    assert result.cancel() is State.CANCELLED
    assert {job.state for job in worker.jobs} == {State.CANCELLED}
    assert worker.drain() == 0


def test_a_step_can_be_run_again_by_hand_when_the_one_before_it_is_mended(worker: LocalWorker) -> None:
    results: list[int] = []

    @app.task(name="flaky", retry=None)
    def flaky() -> int:
        results.append(1)
        if len(results) == 1:
            raise OSError("not yet")
        return 7

    result = chain(flaky, plus).enqueue()
    worker.drain()
    [first] = worker.find(flaky)
    app.store.retry([first.id])
    worker.drain()
    app.store.retry([result.id])
    worker.drain()
    result.refresh()
    assert result.get(0) == 8


def test_a_chain_can_be_enqueued_again(worker: LocalWorker) -> None:
    steps = chain(number.bind(1), plus)
    first, second = steps.enqueue(), steps.enqueue()
    worker.drain()
    assert (first.get(0), second.get(0)) == (2, 2)
    assert first.id != second.id


def test_a_chain_with_one_step_is_that(worker: LocalWorker) -> None:
    result = chain(number.bind(1)).enqueue()
    assert type(result) is TaskResult
    worker.drain()
    assert result.get(0) == 1


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_the_callback_takes_the_results_in_their_order(worker: LocalWorker) -> None:
    result = group(number.bind(n) for n in range(20)).then(total).enqueue()
    worker.drain()
    assert called == [f"total {list(range(20))}"]
    assert result.get(0) == 190


def test_a_group_is_waited_for(worker: LocalWorker) -> None:
    result = group([number.bind(1), twice.bind(4)]).enqueue()
    assert (result.counts, result.is_finished, len(result.ids)) == ({State.READY: 2}, False, 2)
    worker.drain()
    result.refresh()
    assert (result.counts, result.is_finished) == ({State.SUCCESSFUL: 2}, True)
    assert result.get(0) == [1, 8]
    assert asyncio.run(result.aget(0)) == [1, 8]
    assert repr(result) == "<GroupResult of 2: 2 successful>"


def test_a_group_with_a_failed_member_raises(worker: LocalWorker) -> None:
    result = group([number.bind(1), number.bind(-1)]).enqueue()
    worker.drain()
    with pytest.raises(TaskFailed, match="below zero"):
        result.get(0)
    assert result.counts == {State.SUCCESSFUL: 1, State.FAILED: 1}


def test_a_group_can_be_cancelled_with_what_follows(worker: LocalWorker) -> None:
    result = group(number.bind(n) for n in range(5)).enqueue()
    assert result.cancel() == {State.CANCELLED: 5}
    last = group(number.bind(n) for n in range(5)).then(total).enqueue()
    app.cancel(worker.find(number)[-1].id)
    worker.drain()
    last.refresh()
    assert last.state is State.CANCELLED
    assert called == []


def test_a_failed_member_stands_in_its_place_where_the_hint_takes_it(worker: LocalWorker) -> None:
    result = group(number.bind(n) for n in (1, -2, 3)).then(tally).enqueue()
    worker.drain()
    assert result.get(0) == ["1", "builtins.ValueError: -2 is below zero", "3"]


def test_a_failed_member_fails_a_callback_that_takes_none(worker: LocalWorker) -> None:
    result = group(number.bind(n) for n in (1, -2, -3)).then(total).enqueue()
    worker.drain()
    reason = r"2 of the 3 jobs before it failed, the first was job \S+ of \S+\.number: builtins.ValueError: -2"
    with pytest.raises(TaskFailed, match=reason):
        result.get(0)
    assert called == []


def test_an_empty_group_calls_back_with_nothing(worker: LocalWorker) -> None:
    result = group([]).then(total).enqueue()
    worker.drain()
    assert (called, result.get(0)) == (["total []"], 0)
    nothing: GroupResult[int] = group([]).enqueue()
    assert (nothing.get(0), nothing.cancel(), nothing.is_finished, worker.drain()) == ([], {}, True, 0)
    assert asyncio.run(group([]).aenqueue()).ids == []


def test_ten_thousand_members(worker: LocalWorker) -> None:
    result = group(number.bind(n) for n in range(10_000)).then(total).enqueue()
    [record] = app.store.get([result.id])
    assert record is not None
    assert len(record.body) < 1_000, "the callback does not name its members"
    with working(app):
        assert result.get(60) == sum(range(10_000))


def test_members_are_not_forgotten_before_the_callback_has_run() -> None:
    broker = MemoryBroker("memory:", kept=10)
    with app.standing_in(broker):
        jobs = LocalWorker(app, broker)  # type: ignore[arg-type]  # which may be impatient: nothing is tried again
        result = group(number.bind(n) for n in range(50)).then(total).enqueue()
        jobs.drain(retries=False)
        result.refresh()
        assert result.get(0) == sum(range(50))
        assert len(jobs.jobs) <= 11


# ---- nesting ---------------------------------------------------------------------------------------------------------


def test_a_group_in_a_chain(worker: LocalWorker) -> None:
    result = chain(number.bind(1), group([plus.bind(y=n) for n in range(3)]), total, twice).enqueue()
    worker.drain()
    assert called[-1] == "total [1, 2, 3]"
    assert result.get(0) == 12


def test_a_group_of_chains(worker: LocalWorker) -> None:
    result = group(chain(number.bind(n), plus, twice) for n in range(3)).then(total).enqueue()
    worker.drain()
    assert result.get(0) == 2 + 4 + 6


def test_a_chain_of_groups(worker: LocalWorker) -> None:
    result = chain(group([number.bind(1), number.bind(2)]), group([total, tally])).enqueue()
    worker.drain()
    assert result.get(0) == [3, ["1", "2"]]


def test_a_group_with_a_callback_in_a_group(worker: LocalWorker) -> None:
    inner = [group(number.bind(n) for n in range(m)).then(total) for m in (2, 3)]
    result = group(inner).then(total).enqueue()
    worker.drain()
    assert result.get(0) == 1 + 3


def test_a_failure_goes_through_groups(worker: LocalWorker) -> None:
    result = chain(number.bind(-1), group([plus.bind(y=n) for n in range(3)]), tally).enqueue()
    worker.drain()
    assert len(result.get(0)) == 3
    assert all("UpstreamFailed" in one for one in result.get(0))


# ---- what follows one job --------------------------------------------------------------------------------------------


def test_on_success_and_on_failure(worker: LocalWorker) -> None:
    using = number.using(on_success=[plus.bind(y=5), note], on_failure=complain.bind(to="ada"))
    good, bad = using.enqueue(1), using.enqueue(-1)
    worker.drain()
    good.refresh()
    assert good.get(0) == 1
    assert sorted(called) == ["note", "plus 1 5"]
    states = [(job.task_name.rpartition(".")[2], job.state) for job in worker.jobs]
    assert sorted(states) == [
        ("complain", State.CANCELLED),
        ("complain", State.SUCCESSFUL),
        ("note", State.CANCELLED),
        ("note", State.SUCCESSFUL),
        ("number", State.FAILED),
        ("number", State.SUCCESSFUL),
        ("plus", State.CANCELLED),
        ("plus", State.SUCCESSFUL),
    ]
    complained = next(job for job in worker.find(complain) if job.state is State.SUCCESSFUL)
    assert (
        app.get_result(complained.id).get(0) == "ada: tests.unit.test_flow.number builtins.ValueError -1 is below zero"
    )
    assert [job.errors for job in worker.find(complain) if job.errors] == [
        ("OW158 the job that it comes after has not failed",)
    ]
    assert bad.state is State.READY


def test_a_member_may_have_followers(worker: LocalWorker) -> None:
    careful = number.using(on_failure=note)
    result = group(careful.bind(n) for n in (1, -1)).then(tally).enqueue()
    worker.drain()
    assert called == ["note"]
    assert result.get(0)[0] == "1"


def test_cancelling_a_job_with_followers_leaves_them_to_themselves(worker: LocalWorker) -> None:
    result = number.using(on_success=plus, on_failure=note).enqueue(1)
    assert type(result) is TaskResult
    assert result.cancel() is State.CANCELLED
    worker.drain()
    assert {job.state for job in worker.jobs} == {State.CANCELLED}


def test_after_takes_nothing_and_starts_whatever_the_end(worker: LocalWorker) -> None:
    results = [number.enqueue(1), number.enqueue(-1)]
    note.using(after=results).enqueue()
    worker.drain()
    assert called == ["note"]


# ---- members that never came -----------------------------------------------------------------------------------------


class Cut(MemoryBroker):
    """Its connection breaks after so many batches."""

    def __init__(self, batches: int) -> None:
        super().__init__("memory:")
        self.batches = batches

    def enqueue(self, jobs: Sequence[Job]) -> list[Accepted]:
        if not self.batches:
            raise BrokerUnavailable("the cable is out")
        self.batches -= 1
        return super().enqueue(jobs)


def test_members_that_were_never_enqueued_count_as_failed() -> None:
    broker = Cut(2)
    with app.standing_in(broker):
        with pytest.raises(PartlyEnqueued) as caught:
            group(number.bind(n) for n in range(2500)).then(total).enqueue()
        assert len(caught.value.accepted) == 2000
        jobs = LocalWorker(app, broker)  # type: ignore[arg-type]
        jobs.drain(retries=False, limit=5000)
        [callback] = jobs.find(total)
        assert callback.state is State.HELD
        jobs.clock.move(timedelta(minutes=11))
        jobs.drain(retries=False)
        [callback] = jobs.find(total)
        assert callback.state is State.FAILED
        assert "501 of the 2500 jobs before it failed" in callback.errors[-1]
        assert "it was never enqueued, or is forgotten" in callback.errors[-1]
        assert called == []


def test_nothing_is_enqueued_when_the_first_batch_cannot_be() -> None:
    broker = Cut(0)
    with app.standing_in(broker), pytest.raises(BrokerUnavailable):
        chain(number.bind(1), plus).enqueue()
    assert broker.results == []


def test_what_waits_for_a_refused_job_is_withdrawn(worker: LocalWorker) -> None:
    gone = number.enqueue(1)
    app.store.delete([gone.id])
    with pytest.raises(InvalidOption, match="which is not known"):
        chain(number.using(after=[gone]).bind(2), plus, note).enqueue()
    assert {job.state for job in worker.jobs} == {State.CANCELLED}


# ---- what is refused -------------------------------------------------------------------------------------------------

other = Outwork()


@other.task
def elsewhere(x: int) -> None:
    pass


@app.task(keep_result=0)
def secret() -> int:
    return 1


@app.task(unique=True)
def single(x: int) -> int:
    return x


@app.task
def texts(x: list[str]) -> str:
    return ""


def test_a_call_that_lacks_an_argument_is_refused_by_itself(worker: LocalWorker) -> None:
    lacking = plus.bind()
    assert repr(lacking) == "<PartialCall tests.unit.test_flow.plus without x>"
    enqueue: Callable[..., Any] = lacking.enqueue  # type: ignore[attr-defined]
    without: Callable[..., Any] = plus.enqueue
    calls: list[Any] = [lacking]
    for attempt in (
        enqueue,
        without,
        lambda: app.enqueue_many(calls),
        group([number.bind(1), lacking]).then(total).enqueue,
        chain(plus.bind()).enqueue,
    ):
        with pytest.raises(WrongArguments, match="missing a required argument: 'x'"):
            attempt()
    assert worker.jobs == []


@pytest.mark.parametrize(
    ("compose", "error", "says"),
    [
        (lambda: chain(number.bind(1), elsewhere), Unsupported, "belong to two applications"),
        (lambda: group([number.bind(1), elsewhere.bind(1)]), Unsupported, "belong to two applications"),
        (lambda: chain(secret, plus), InvalidOption, "keep_result=0 throws away"),
        (lambda: chain(single.bind(1), plus), InvalidOption, "is unique"),
        (lambda: chain(number.bind(1), single), InvalidOption, "is unique"),
        (lambda: chain(number.using(connection=object()).bind(1), plus), Unsupported, "connection="),
        (lambda: chain(note, plus), NotSerializable, r"would be what \S+\.note returns, which does not fit"),
        (lambda: chain(number.bind(1), texts), NotSerializable, r"would be what \S+\.number returns"),
        (lambda: group([number.bind(1)]).then(plus), NotSerializable, "would be a list"),
        (lambda: group([]).then(plus), NotSerializable, "takes no list"),
        (lambda: chain(number.bind(1), group([]), note), InvalidOption, "an empty group cannot come after"),
        (lambda: chain(number.bind(1), group([plus] * 1001), note), InvalidOption, "a group of 1,001"),
        (lambda: chain(group([note] * 101), group([note] * 100)), InvalidOption, "10,000 names"),
        (lambda: chain(number.using(on_failure=plus.bind()).bind(1)), NotSerializable, "a MemberFailed"),
    ],
)
def test_a_composition_that_cannot_be_is_refused(
    worker: LocalWorker, compose: Callable[[], Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        compose().enqueue()
    assert worker.jobs == []


def test_what_is_no_step_is_refused_at_once() -> None:
    with pytest.raises(InvalidOption, match="says nothing"):
        chain()
    with pytest.raises(InvalidOption, match="is no step"):
        chain(number.bind(1), lambda x: x)  # type: ignore[call-overload]
    inner: list[Any] = [group([note])]
    with pytest.raises(InvalidOption, match="ends with one call"):
        group(inner)
    with pytest.raises(InvalidOption, match=r"group\(\) takes one list, .*: group\(\[a, b\]\)$"):
        group(number.bind(1), number.bind(2))  # type: ignore[call-overload]
    with pytest.raises(InvalidOption, match=r"group\(\) takes one list"):
        group(number)  # type: ignore[call-overload]
    with pytest.raises(InvalidOption, match="begins with an empty group"):
        group([group([]).then(total)])
    with pytest.raises(WrongArguments):
        plus.bind(z=1)  # type: ignore[call-overload]


def test_one_job_can_be_waited_for_as_well_as_several(worker: LocalWorker) -> None:
    first, second = number.enqueue(1), number.enqueue(2)
    assert note.using(after=first).options.after == (first.id,)
    assert note.using(after=[first, second]).options.after == (first.id, second.id)
    waiting = number.using(after=first).enqueue(3)
    worker.drain()
    assert waiting.get() == 3


def test_jobs_of_another_application_cannot_be_waited_for(worker: LocalWorker) -> None:
    with local_worker(other):
        result = elsewhere.enqueue(1)
    with pytest.raises(Unsupported, match="another application"):
        note.using(after=[result])


def test_followers_are_not_for_many_nor_for_a_connection(worker: LocalWorker) -> None:
    followed = number.using(on_success=note)
    with pytest.raises(InvalidOption, match="neither with connection= nor with enqueue_many"):
        app.enqueue_many([followed.bind(1)])
    with pytest.raises(InvalidOption, match="neither with connection= nor with enqueue_many"):
        followed.using(connection=object()).enqueue(1)


def test_a_broker_that_cannot_is_named() -> None:
    broker = MemoryBroker("memory:")
    broker.capabilities = Capabilities(composition=False)
    free = Outwork(broker=broker)
    step: Task[[], None] = free.task(name="step")(lambda: None)
    for attempt in (
        chain(step, step).enqueue,
        group([step]).then(step).enqueue,
        step.using(on_success=step).enqueue,
    ):
        with pytest.raises(Unsupported, match="memory:"):
            attempt()
    assert broker.results == []


# ---- in the caller ---------------------------------------------------------------------------------------------------


@pytest.fixture
def caller() -> Any:
    with app.standing_in(MemoryBroker("immediate:")):
        yield


@pytest.mark.usefixtures("caller")
def test_everything_runs_in_its_order_in_the_caller() -> None:
    assert chain(number.bind(1), plus.bind(y=10), twice).enqueue().return_value == 22
    assert group(number.bind(n) for n in range(5)).then(total).enqueue().return_value == 10
    assert called[-1] == "total [0, 1, 2, 3, 4]"
    assert group([number.bind(1), twice.bind(2)]).enqueue().get(0) == [1, 4]
    result = group(number.bind(n) for n in (1, -1)).then(tally).enqueue()
    assert result.return_value == ["1", "builtins.ValueError: -1 is below zero"]
    assert number.using(on_success=plus, on_failure=note).enqueue(1).return_value == 1
    assert called[-1] == "plus 1 1"
    failed = chain(number.bind(-1), plus).enqueue()
    assert failed.state is State.FAILED
    assert "It was not called" in failed.errors[-1].message


@pytest.mark.usefixtures("caller")
def test_coroutines_run_on_the_loop_that_enqueues() -> None:
    async def main() -> tuple[int, int]:
        first = await chain(number.bind(1), twice, plus).aenqueue()
        second = await twice.using(on_success=note).aenqueue(2)
        return first.return_value, second.return_value

    assert asyncio.run(main()) == (3, 4)
    assert called == ["plus 2 1", "note"]


def test_aenqueue(worker: LocalWorker) -> None:
    async def main() -> tuple[int, list[int]]:
        last = await chain(number.bind(1), plus).aenqueue()
        members = await group([number.bind(5), twice.bind(5)]).aenqueue()
        await worker.adrain()
        await members.arefresh()
        return await last.aget(0), await members.aget(0)

    assert asyncio.run(main()) == (2, [5, 10])
