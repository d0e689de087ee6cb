"""(policy, attempt, error) -> when to run the job again, or never. Pure: chance is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from math import log

from outwork.durations import seconds_of
from outwork.errors import DeclarationError, GiveUp, TryAgain
from outwork.habits import known_fields


@known_fields
@dataclass(frozen=True, kw_only=True)
class Retry:
    """When a failed attempt is repeated.

    The n-th repetition (from 0) waits a random time between 0 and `delay` x `factor`^n, at most `max_delay` ("full
    jitter": the failed jobs of an outage do not come back together); with `jitter=False` exactly that time. `delays`,
    if given, lists the times instead, the last one repeated. The default makes 10 attempts in about 1.7 hours.

    - max_attempts: attempts in all, None for no limit. Crashes of the worker are not counted here
    - on: only these exceptions are worth another attempt; `give_up_on`: these never are, nor is `GiveUp`
    """

    max_attempts: int | None = 10
    delay: float | timedelta = 1.0
    factor: float = 4.0
    max_delay: float | timedelta = 3600.0
    jitter: bool = True
    delays: Sequence[float | timedelta] = ()
    on: tuple[type[BaseException], ...] = (BaseException,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if self.max_attempts is not None and not (_is_number(self.max_attempts, int) and self.max_attempts >= 1):
            raise DeclarationError(
                f"Retry(max_attempts={self.max_attempts!r}): a whole number, at least 1, is needed, or None"
            )
        if not (_is_number(self.factor, int, float) and self.factor >= 1):  # nor NaN
            raise DeclarationError(
                f"Retry(factor={self.factor!r}): a number of 1 or more is needed: delays do not shrink"
            )
        if not isinstance(self.jitter, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DeclarationError(f"Retry(jitter={self.jitter!r}): write True or False")
        if isinstance(self.delays, str) or not isinstance(self.delays, Sequence):  # pyright: ignore
            raise DeclarationError(
                f"Retry(delays={self.delays!r}): a list of lengths of time is needed, as (1, 60, 3600)"
            )
        for name, value in (
            ("delay", self.delay),
            ("max_delay", self.max_delay),
            *(("delays", d) for d in self.delays),
        ):
            try:
                seconds_of(value)
            except ValueError as error:
                raise DeclarationError(f"Retry({name}={value!r}): {error}") from None
        for name, kinds in (("on", self.on), ("give_up_on", self.give_up_on)):
            if not isinstance(kinds, tuple) or not all(
                isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
            ):
                raise DeclarationError(
                    f"Retry({name}={kinds!r}): a tuple of exception classes is needed, as (OSError,)"
                )


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


NEVER = Retry(max_attempts=1)
"""The policy of a task declared with `retry=None`."""


def for_any_error(policy: Retry) -> Retry:
    """The same policy, whatever was raised."""
    return replace(policy, on=(BaseException,), give_up_on=())


def next_delay(policy: Retry, failed: int, error: BaseException, chance: float) -> float | None:
    """Seconds until the next attempt, or None for never.

    `failed` is how many attempts have failed, this one included (1 or more); `chance` is a random number in [0, 1).
    """
    asked = isinstance(error, TryAgain)
    if not asked and (isinstance(error, (GiveUp, policy.give_up_on)) or not isinstance(error, policy.on)):
        return None
    if policy.max_attempts is not None and failed >= policy.max_attempts:
        return None
    if policy.delays:
        longest = seconds_of(policy.delays[min(failed, len(policy.delays)) - 1])
    else:
        repetition = failed - 1
        growth = policy.factor**repetition if repetition * log(policy.factor) < 60 else 1e26  # no overflow
        longest = min(seconds_of(policy.max_delay), seconds_of(policy.delay) * growth)
    return longest * chance if policy.jitter else longest
