"""The options of a task: as `@task` declares them, and as `using` changes them for a job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from outwork.declaring.bounds import Key, Limit, UniqueRule, as_fair_key, limits_of, unique_rule
from outwork.durations import seconds_of
from outwork.errors import DeclarationError, InvalidOption, NaiveDatetime
from outwork.job import DEFAULT_QUEUE, PRIORITY_MAX, PRIORITY_MIN
from outwork.retry import NEVER, Retry
from outwork.schedule import Misfire, Periodic, make_periodic
from outwork.ties import Conflict

Duration: TypeAlias = timedelta | float
"""A length of time: a timedelta, or seconds."""
When: TypeAlias = datetime | timedelta | float
"""A moment: an aware datetime, or a length of time from now."""
Delivery: TypeAlias = Literal["at_least_once", "at_most_once"]
Executor: TypeAlias = Literal["thread", "process"]

DEFAULT_RETRY: Final = Retry()


class Follower(NamedTuple):
    """What is to run after a job, when that ended so: a step of `outwork.composition.flow`."""

    when: Literal["successful", "failed"]
    step: Any


class Options(Struct, frozen=True, kw_only=True):
    """The options of a task, as declared or changed by `using`. Times are seconds."""

    queue_name: str = DEFAULT_QUEUE
    priority: int = 0
    retry: Retry = DEFAULT_RETRY
    timeout: float | None = None
    keep_result: float | None = None
    expires: float | None = None
    max_crashes: int = 3
    delivery: Delivery = "at_least_once"
    executor: Executor | None = None
    takes_context: bool = False
    delay: float | None = None
    due: float | None = None
    unique: UniqueRule | None = None
    limits: tuple[Limit, ...] = ()
    fair_key: Key | None = None
    after: tuple[str, ...] = ()
    periodic: Periodic | None = None
    followers: tuple[Follower, ...] = ()


class Unset:
    """The type of `UNSET`: the option was not given."""


UNSET: Final = Unset()


def make_options(
    *,
    queue_name: str,
    priority: int,
    retry: Retry | Unset | None,
    timeout: Duration | None,
    keep_result: Duration | None,
    expires: Duration | None,
    max_crashes: int,
    delivery: Delivery,
    executor: Executor | None,
    takes_context: bool,
    unique: bool,
    unique_for: Duration | None,
    unique_key: Key | None,
    on_conflict: Conflict | None,
    limit: Limit | Sequence[Limit] | None,
    fair_key: Key | None,
    cron: str | None,
    every: Duration | None,
    timezone: str | None,
    misfire: Misfire | None,
) -> Options:
    """The options of a declaration, checked. Raises DeclarationError."""
    if delivery not in ("at_least_once", "at_most_once"):
        raise DeclarationError(f"delivery={delivery!r}: write 'at_least_once' or 'at_most_once'")
    if executor not in (None, "thread", "process"):
        raise DeclarationError(f"executor={executor!r}: write 'thread' or 'process'")
    once = delivery == "at_most_once"
    rule, limits = unique_rule(unique, unique_for, unique_key, on_conflict), limits_of(limit)
    if once and rule is not None:
        raise DeclarationError(
            "unique and delivery='at_most_once' contradict each other: whether a job that nobody starts twice still "
            "holds its key cannot be known when its worker died. Leave one of them out"
        )
    if isinstance(max_crashes, bool) or not isinstance(max_crashes, int) or max_crashes < 0:  # pyright: ignore
        raise DeclarationError(f"max_crashes={max_crashes!r}: a whole number is needed, 0 or more")
    return Options(
        queue_name=as_queue_name(queue_name, DeclarationError),
        priority=as_priority(priority, DeclarationError),
        retry=_as_retry(retry, once=once),
        timeout=None if timeout is None else as_positive("timeout", timeout, DeclarationError),
        keep_result=None if keep_result is None else as_length("keep_result", keep_result, DeclarationError),
        expires=None if expires is None else as_positive("expires", expires, DeclarationError),
        max_crashes=max_crashes,
        delivery=delivery,
        executor=executor,
        takes_context=takes_context,
        unique=rule,
        limits=limits,
        fair_key=as_fair_key(fair_key, DeclarationError),
        periodic=make_periodic(cron, every, timezone, misfire),
    )


def _as_retry(retry: object, *, once: bool) -> Retry:
    if not isinstance(retry, Retry | Unset | None):
        raise DeclarationError(f"retry={retry!r}: write retry=Retry(max_attempts=...), or None for one attempt")
    if once and isinstance(retry, Retry) and retry.max_attempts != 1:
        raise DeclarationError(
            "delivery='at_most_once' and a retry policy contradict each other: leave one of them out"
        )
    if isinstance(retry, Unset):
        return NEVER if once else DEFAULT_RETRY
    return NEVER if retry is None else retry


def debounced(options: Options, debounce: Duration, max_wait: Duration | None) -> Options:
    """These options for a job that waits for the last call of a window. Raises InvalidOption."""
    window = as_positive("debounce", debounce, InvalidOption)
    patience = 10 * window if max_wait is None else as_positive("max_wait", max_wait, InvalidOption)
    rule = replace(options.unique or UniqueRule(), conflict="replace", patience=patience)
    return replace(options, unique=rule, delay=window, due=None)


def as_queue_name(name: str, error: type[ValueError] = InvalidOption) -> str:
    """The name of a queue, checked. Raises `error`."""
    if not isinstance(name, str) or not name or len(name) > 100 or not set(name).isdisjoint(" ,:\t\n\r\0"):  # pyright: ignore
        raise error(f"queue_name={name!r}: a name of 1 to 100 characters without spaces, commas or colons is needed")
    return name


def as_priority(priority: int, error: type[ValueError] = InvalidOption) -> int:
    """A priority, checked. Raises `error`."""
    if isinstance(priority, bool) or not isinstance(priority, int) or not PRIORITY_MIN <= priority <= PRIORITY_MAX:  # pyright: ignore
        raise error(
            f"priority={priority!r}: a whole number from {PRIORITY_MIN} to {PRIORITY_MAX} is needed, larger first"
        )
    return priority


def as_length(what: str, value: Duration, error: type[ValueError]) -> float:
    """A length of time in seconds; `what` names the option. Raises `error`."""
    try:
        return seconds_of(value)
    except ValueError as cause:
        raise error(f"{what}: {cause}") from None


def as_positive(what: str, value: Duration, error: type[ValueError]) -> float:
    """As `as_length`, more than nothing."""
    length = as_length(what, value, error)
    if length <= 0:
        raise error(f"{what}={value!r}: more than 0 seconds are needed")
    return length


def as_moment(when: When) -> tuple[float | None, float | None]:
    """(due as Unix seconds, delay in seconds): one of them."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise NaiveDatetime(
                "run_after is a datetime without a time zone. Write datetime.now(timezone.utc) + ..., or a timedelta"
            )
        return when.timestamp(), None
    if isinstance(when, timedelta) and when < timedelta(0):
        return None, 0.0
    return None, as_length("run_after", when, InvalidOption)
