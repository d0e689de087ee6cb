"""A call that lacks one argument, because the job before it is to give it (`outwork.flow`)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from outwork.errors import WrongArguments

if TYPE_CHECKING:
    from outwork.task import Call, Task

R = TypeVar("R")

POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class PartialCall(Generic[R]):
    """What `task.bind` returns where exactly one positional argument without a default is missing: a step of a `chain`,
    or of `then`, takes what the step before it returned in its place. By itself it cannot be enqueued.

    `call` has the arguments that were given; `lacks` is the parameter that has none.
    """

    __slots__ = ("_refusal", "call", "lacks")

    def __init__(self, call: Call[R], lacks: str, refusal: str) -> None:
        self.call = call
        self.lacks = lacks
        self._refusal = refusal

    @property
    def task(self) -> Task[..., R]:
        """The task that is to be called."""
        return self.call.task

    def refuse(self) -> NoReturn:
        """Raise WrongArguments, which says what is missing."""
        raise WrongArguments(self._refusal)

    job = refuse

    if not TYPE_CHECKING:  # type checkers see that these are not there; who does not use one is told at the call
        enqueue = aenqueue = refuse

    def __repr__(self) -> str:
        return f"<PartialCall {self.task.name} without {self.lacks}>"


def partly_bound(
    task: Task[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any], refusal: WrongArguments
) -> PartialCall[R]:
    """The call with these arguments, one of which is missing. Raises `refusal` where more than that is wrong."""
    try:
        bound = task.signature.bind_partial(*args, **kwargs).arguments
    except TypeError:
        raise refusal from None
    missing = [
        one
        for one in task.signature.parameters.values()
        if one.default is one.empty and one.name not in bound and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if len(missing) != 1 or missing[0].kind not in POSITIONAL:
        raise refusal
    lacks = missing[0].name
    return PartialCall(task.call_of(args, kwargs, lacks), lacks, str(refusal.args[0]))


def first_parameter(task: Task[..., Any]) -> str:
    """The name of the first positional parameter; "" where there is none."""
    first = next(iter(task.signature.parameters.values()), None)
    return first.name if first is not None and first.kind in POSITIONAL else ""
