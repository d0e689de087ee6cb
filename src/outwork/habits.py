"""What tasks have under another name in other libraries: for the first mistakes of those who come from there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from outwork.errors import UnknownOption

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_ENQUEUE: Final = ".enqueue(...)"
_USING: Final = ".using(run_after=..., queue_name=..., priority=...).enqueue(...)"
_BIND: Final = ".bind(...)"
_MANY: Final = ".bind(...) for each, and give them to outwork.enqueue_many(...)"
METHODS: Final[Mapping[str, str]] = {
    "delay": _ENQUEUE,
    "send": _ENQUEUE,
    "defer": _ENQUEUE,
    "submit": _ENQUEUE,
    "apply_async": _USING,
    "send_with_options": _USING,
    "schedule": _USING,
    "configure": _USING,
    "kicker": _USING,
    "set": _USING,
    "kiq": ".aenqueue(...)",
    "defer_async": ".aenqueue(...)",
    "call_local": "(...), which calls the function,",
    "apply": "(...), which calls the function,",
    "map": _MANY,
    "starmap": _MANY,
    "chunks": _MANY,
    "s": _BIND,
    "si": _BIND,
    "signature": _BIND,
    "message": _BIND,
}
"""What to write for a method of another library's tasks, behind the task's name."""

_RETRY: Final = "retry=Retry(max_attempts=...)"
OPTIONS: Final[Mapping[str, str]] = {
    "queue": "queue_name=...",
    "bind": "takes_context=True",
    "pass_context": "takes_context=True",
    "retries": _RETRY,
    "max_retries": _RETRY,
    "max_attempts": _RETRY,
    "attempts": _RETRY,
    "autoretry_for": "retry=Retry(on=(...,))",
    "throws": "retry=Retry(give_up_on=(...,))",
    "retry_delay": "retry=Retry(delay=...)",
    "default_retry_delay": "retry=Retry(delay=...)",
    "min_backoff": "retry=Retry(delay=...), in seconds",
    "max_backoff": "retry=Retry(max_delay=...), in seconds",
    "time_limit": "timeout=..., in seconds",
    "soft_time_limit": "timeout=..., in seconds",
    "job_timeout": "timeout=...",
    "result_ttl": "keep_result=...",
    "max_age": "expires=..., in seconds",
    "ttl": "expires=...",
    "rate_limit": "limit=Rate(...)",
    "lock": "limit=Concurrency(1)",
    "queueing_lock": "unique_key=...",
    "countdown": "using(run_after=...)",
    "eta": "using(run_after=...)",
    "delay": "using(run_after=...)",
    "schedule_in": "using(run_after=...)",
    "schedule_at": "using(run_after=...)",
}
"""What to write for an option of another library."""

CALL_OPTIONS: Final = ("queue_name", "priority", "run_after", "expires", "connection", "fair_key", "debounce")
"""Options of `using` that somebody may give to `enqueue`."""

_STATE: Final = ".refresh(), then .state"
RESULTS: Final[Mapping[str, str]] = {
    "result": ".get(timeout=...), or .return_value",
    "wait": ".get(timeout=...)",
    "wait_result": ".get(timeout=...)",
    "join": ".get(timeout=...)",
    "get_result": ".get(timeout=...)",
    "latest_result": ".get(timeout=...)",
    "ready": ".refresh(), then .is_finished",
    "is_ready": ".refresh(), then .is_finished",
    "successful": _STATE,
    "failed": _STATE,
    "get_status": _STATE,
    "is_failed": _STATE,
    "traceback": ".errors[-1].traceback",
    "exc_info": ".errors[-1].traceback",
    "revoke": ".cancel()",
    "abort": ".cancel()",
    "meta": ".progress()",
    "info": ".progress()",
    "task_id": ".id",
    "job_id": ".id",
    "message_id": ".id",
}
"""What to write for an attribute of another library's results."""

_ATTEMPTS: Final = "max_attempts=..., which counts the first attempt, too"
RETRY_OPTIONS: Final[Mapping[str, str]] = {
    "max_retries": _ATTEMPTS,
    "retries": _ATTEMPTS,
    "max": _ATTEMPTS,
    "max_tries": _ATTEMPTS,
    "attempts": _ATTEMPTS,
    "interval": "delays=(...,), in seconds",
    "countdown": "delay=...",
    "wait": "delay=...",
    "retry_delay": "delay=...",
    "default_retry_delay": "delay=...",
    "min_backoff": "delay=..., in seconds",
    "backoff": "factor=...",
    "retry_backoff": "factor=...",
    "exponential_wait": "factor=...",
    "max_backoff": "max_delay=..., in seconds",
    "max_interval": "max_delay=...",
    "retry_backoff_max": "max_delay=...",
    "retry_jitter": "jitter=...",
    "autoretry_for": "on=(...,)",
    "retry_on": "on=(...,)",
    "exceptions": "on=(...,)",
    "throws": "give_up_on=(...,)",
    "dont_autoretry_for": "give_up_on=(...,)",
}
"""What to write for an argument of another library's retry policy."""


def explain_method(task: str, name: str) -> str:
    """What an AttributeError says where a task has no such method."""
    here = METHODS.get(name)
    return f"a task has no {name!r}" + (f": write {task}{here}" if here else "")


def explain_argument(name: str) -> str | None:
    """What to write for an option that was given among the arguments of a task; None if it is none."""
    if name in CALL_OPTIONS:
        return f"task.using({name}=...).enqueue(...)"
    here = OPTIONS.get(name, "")
    if here.startswith("using("):
        return f"task.{here}.enqueue(...)"
    return f"task.using({here}).enqueue(...)" if here.partition("=")[0] in CALL_OPTIONS else None


def explain_attribute(name: str) -> str:
    """What an AttributeError says where a result has no such attribute."""
    here = RESULTS.get(name)
    return f"a TaskResult has no {name!r}" + (f": write {here}" if here else "")


def known_options(function: F) -> F:
    """Let a function that takes options by name say of one that it does not know what it is called here."""
    code = function.__code__
    known = code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        for name in options:
            if name not in known:
                raise UnknownOption(_explain_option(function.__name__, name, known, OPTIONS))
        return function(*args, **options)

    return run  # type: ignore[return-value]


def known_fields(policy: type[T]) -> type[T]:
    """Let a dataclass whose fields are given by name say of one that it does not have what it is called here."""
    make, known = policy.__init__, tuple(policy.__annotations__)

    @functools.wraps(make)
    def run(self: T, *args: Any, **options: Any) -> None:
        if args:
            line = f"{policy.__name__}({known[0]}={args[0]!r})"
            raise UnknownOption(f"{policy.__name__}() takes its options by name, for example {line}")
        for name in options:
            if name not in known:
                raise UnknownOption(_explain_option(policy.__name__, name, known, RETRY_OPTIONS))
        make(self, **options)

    policy.__init__ = run  # type: ignore[assignment]
    return policy


def _explain_option(function: str, name: str, known: tuple[str, ...], elsewhere: Mapping[str, str]) -> str:
    close = get_close_matches(name, known, n=1)
    here = elsewhere.get(name) or (f"{close[0]}=..." if close else None)
    advice = f"Write {here}" if here else f"There are {', '.join(one for one in known if one != 'self')}"
    return f"{function}() has no option {name!r}. {advice}"
