"""When a failed attempt is repeated."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outwork import GiveUp, Retry, TryAgain
from outwork.durations import seconds_of
from outwork.errors import DeclarationError, TimeLimitExceeded
from outwork.retry import NEVER, next_delay

lengths = st.floats(0, 1e7)
chances = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    Retry,
    max_attempts=st.none() | st.integers(1, 100),
    delay=lengths,
    factor=st.floats(1, 1e6),
    max_delay=lengths,
    jitter=st.booleans(),
    delays=st.lists(lengths, max_size=5).map(tuple),
)
attempts = st.integers(1, 10**6)


@given(policies, attempts, chances)
def test_a_delay_is_never_negative_nor_above_its_limit(policy: Retry, failed: int, chance: float) -> None:
    delay = next_delay(policy, failed, ValueError(), chance)
    if delay is None:
        return
    limit = max(map(seconds_of, policy.delays)) if policy.delays else seconds_of(policy.max_delay)
    assert 0 <= delay <= limit


@given(policies, attempts, chances)
def test_the_last_attempt_is_the_last(policy: Retry, failed: int, chance: float) -> None:
    over = policy.max_attempts is not None and failed >= policy.max_attempts
    assert (next_delay(policy, failed, ValueError(), chance) is None) == over


@given(policies, st.integers(1, 50), chances)
def test_delays_do_not_shrink_and_jitter_only_shortens(policy: Retry, failed: int, chance: float) -> None:
    if policy.max_attempts is not None or policy.delays:
        policy = Retry(delay=policy.delay, factor=policy.factor, max_delay=policy.max_delay, max_attempts=None)
    exact = Retry(delay=policy.delay, factor=policy.factor, max_delay=policy.max_delay, max_attempts=None, jitter=False)
    this, following = (next_delay(exact, n, ValueError(), chance) for n in (failed, failed + 1))
    assert this is not None
    assert following is not None
    assert this <= following
    jittered = next_delay(policy, failed, ValueError(), chance)
    assert jittered is not None
    assert jittered <= this


@given(policies, attempts, chances)
def test_giving_up_is_final(policy: Retry, failed: int, chance: float) -> None:
    assert next_delay(policy, failed, GiveUp("no"), chance) is None


def test_the_default_makes_ten_attempts_in_less_than_two_hours() -> None:
    delays = [next_delay(Retry(), failed, OSError(), 0.5) for failed in range(1, 11)]
    assert delays[-1] is None
    total = sum(delay for delay in delays if delay is not None)
    assert 1.5 * 3600 < total < 2 * 3600
    assert delays[:3] == [0.5, 2.0, 8.0]


def test_only_some_errors_are_worth_it() -> None:
    policy = Retry(on=(OSError,), give_up_on=(FileNotFoundError,))
    assert next_delay(policy, 1, ConnectionError(), 0.5) is not None
    assert next_delay(policy, 1, TimeLimitExceeded(), 0.5) is not None, "it is a TimeoutError"
    assert next_delay(policy, 1, FileNotFoundError(), 0.5) is None
    assert next_delay(policy, 1, ValueError(), 0.5) is None


def test_a_task_that_asks_is_tried_again() -> None:
    """Whatever errors the policy names; but not beyond its attempts."""
    policy = Retry(on=(OSError,), give_up_on=(Exception,), max_attempts=2)
    assert next_delay(policy, 1, TryAgain(), 0.5) is not None
    assert next_delay(policy, 2, TryAgain(), 0.5) is None
    assert next_delay(NEVER, 1, TryAgain(), 0.5) is None


def test_listed_delays() -> None:
    policy = Retry(max_attempts=None, delays=(1, timedelta(minutes=1)), jitter=False)
    assert [next_delay(policy, n, ValueError(), 0.1) for n in (1, 2, 3, 99)] == [1, 60, 60, 60]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_attempts": 0}, "at least 1"),
        ({"max_attempts": "3"}, "max_attempts='3'"),
        ({"max_attempts": 2.5}, "whole number"),
        ({"max_attempts": True}, "whole number"),
        ({"factor": 0.5}, "do not shrink"),
        ({"factor": "4"}, "factor='4'"),
        ({"jitter": 1}, "True or False"),
        ({"delays": 60}, "list of lengths of time"),
        ({"delays": "1m"}, "list of lengths of time"),
        ({"delay": -1}, "negative"),
        ({"max_delay": timedelta(-1)}, "negative"),
        ({"delays": (1, -1)}, "negative"),
        ({"on": (OSError, "ValueError")}, "exception classes"),
        ({"on": OSError}, "exception classes"),
        ({"give_up_on": (5,)}, "exception classes"),
        ({"delay": "soon"}, "length of time"),
        ({"delay": float("nan")}, "length of time"),
        ({"factor": float("nan")}, "factor"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        Retry(**options)


def test_huge_numbers_do_not_overflow() -> None:
    policy = Retry(max_attempts=None, jitter=False)
    assert next_delay(policy, 10**9, ValueError(), 0.0) == 3600
