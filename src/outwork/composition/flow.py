"""Jobs that are enqueued together: one after the other, beside each other, and what follows when all have ended.

`docs/composition.md` tells it by examples, `weaving` makes the jobs, `outwork.feeding` is the side of the worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeAlias, TypeVar, cast, overload

from outwork.composition.sending import Sent, app_of, asend, send
from outwork.composition.weaving import Beside, Line, Node, Web
from outwork.errors import InvalidOption
from outwork.result import FlowResult, GroupResult, TaskResult
from outwork.task import Call, PartialCall, Task

R = TypeVar("R")
S = TypeVar("S")
T_co = TypeVar("T_co", covariant=True)


class Chain(Generic[T_co]):
    """Steps that run one after the other: what `chain` and `then` return. It can be enqueued any number of times."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def enqueue(self) -> T_co:
        """Put all of its jobs in the broker; returns once they are durable. The result of the last step: a TaskResult,
        or a GroupResult.

        Raises EnqueueError when it is refused, PartlyEnqueued when only some of more than 1,000 jobs were written,
        BrokerUnavailable.
        """
        web = Web(self.line)
        return cast("T_co", _result(web, send(web)) if web.nodes else GroupResult(None))

    async def aenqueue(self) -> T_co:
        """As `enqueue`, without blocking the event loop."""
        web = Web(self.line)
        return cast("T_co", _result(web, await asend(web)) if web.nodes else GroupResult(None))

    def __repr__(self) -> str:
        return f"<Chain of {len(self.line)}>"


class Group(Generic[R]):
    """Calls that run beside each other: what `group` returns. It can be enqueued any number of times."""

    def __init__(self, members: tuple[Line, ...]) -> None:
        self.beside = Beside(members)

    def then(self, callback: Call[S] | PartialCall[S] | Task[..., S]) -> Chain[TaskResult[S]]:
        """What is called once, when every member has ended. An argument that it lacks takes the list of what they
        returned, in their order; with the hint `list[int | MemberFailed]` also where some have failed."""
        return Chain((self.beside, callback))

    def enqueue(self) -> GroupResult[R]:
        """Put all members in the broker, a round trip for each 1,000. Raises as `Chain.enqueue` does."""
        return cast("GroupResult[R]", Chain[Any]((self.beside,)).enqueue())

    async def aenqueue(self) -> GroupResult[R]:
        """As `enqueue`, without blocking the event loop."""
        return cast("GroupResult[R]", await Chain[Any]((self.beside,)).aenqueue())

    def __repr__(self) -> str:
        return f"<Group of {len(self.beside.members)}>"


Single: TypeAlias = Call[R] | PartialCall[R] | Task[..., R]
Part: TypeAlias = Call[Any] | PartialCall[Any] | Task[..., Any] | Group[Any] | Chain[Any]


@overload
def chain(last: Single[R], /) -> Chain[TaskResult[R]]: ...
@overload
def chain(a: Part, last: Single[R], /) -> Chain[TaskResult[R]]: ...
@overload
def chain(a: Part, b: Part, last: Single[R], /) -> Chain[TaskResult[R]]: ...
@overload
def chain(a: Part, b: Part, c: Part, last: Single[R], /) -> Chain[TaskResult[R]]: ...
@overload
def chain(a: Part, b: Part, c: Part, d: Part, last: Single[R], /) -> Chain[TaskResult[R]]: ...
@overload
def chain(a: Part, last: Group[R], /) -> Chain[GroupResult[R]]: ...
@overload
def chain(a: Part, b: Part, last: Group[R], /) -> Chain[GroupResult[R]]: ...
@overload
def chain(*steps: Part) -> Chain[Any]: ...
def chain(*steps: Part) -> Chain[Any]:
    """Steps that run one after the other: calls, tasks, groups, other chains.

    A step that lacks an argument takes what the step before it returned; so does a bare task as its first one. When a
    step fails, those after it end FAILED without being called; when one is cancelled, CANCELLED.
    """
    if not steps:
        raise InvalidOption("a chain without a step says nothing")
    return Chain(tuple(part for step in steps for part in _line(step)))


@overload
def group(members: Iterable[Single[R] | Chain[TaskResult[R]]], /) -> Group[R]: ...
@overload
def group(members: Iterable[Single[Any] | Chain[TaskResult[Any]]], /) -> Group[Any]: ...
def group(members: Iterable[Single[Any] | Chain[TaskResult[Any]]], /, *more: object) -> Group[Any]:
    """Calls that run beside each other, any number of them; each may be a chain that ends with one call."""
    if more or isinstance(members, Call | PartialCall | Task):
        raise InvalidOption("group() takes one list, or whatever gives its members: group([a, b])")
    lines = tuple(map(_line, members))
    if any(line[0] == Beside(()) for line in lines):
        raise InvalidOption("a member of a group that begins with an empty group waits for nothing. Leave that out")
    if any(isinstance(line[-1], Beside) for line in lines):
        raise InvalidOption(
            "a member of a group ends with one call, whose result is the member's. Give the inner group a callback: "
            "group(...).then(...)"
        )
    return Group(lines)


def _line(step: Part) -> Line:
    if isinstance(step, Chain):
        return step.line
    if isinstance(step, Group):
        return (step.beside,)
    if isinstance(step, Call | PartialCall | Task):  # pyright: ignore[reportUnnecessaryIsInstance]
        return (step,)
    raise InvalidOption(f"{step!r} is no step: write task.bind(...), a task, group(...) or chain(...)")


def _result(web: Web, sent: Sent) -> TaskResult[Any] | GroupResult[Any]:
    app = app_of(web)

    def of(node: Node) -> TaskResult[Any]:
        return app.result_of(node.call, sent.jobs[node.id], sent.records.get(node.id))

    if web.ends.base:
        return GroupResult(app, list(map(of, web.ends.last)), web.ids)
    last = of(web.ends.last[0])
    return last if len(web.ids) == 1 else FlowResult(last, web.ids)
