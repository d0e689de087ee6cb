"""What bounds the jobs of a task: one at a time by a key, so many at a time, so many in a time, turns by a key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, TypeAlias, get_args
from uuid import UUID

from msgspec import Struct

from outwork.durations import seconds_of
from outwork.errors import DeclarationError, InvalidOption
from outwork.ties import Conflict, Gate, Ties, Unique

Key: TypeAlias = str | Callable[..., object]
"""A key, or a function of the job's arguments (called with all of them by name) that gives it, as text or number."""

UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Concurrency(Struct, frozen=True):
    """At most `most` jobs run at a time, over all workers: of this task, or with `key` for each key of it. Tasks whose
    limits have the same `name` share it."""

    most: int
    key: Key | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.most, bool) or not isinstance(self.most, int) or self.most < 1:  # pyright: ignore
            raise DeclarationError(f"Concurrency({self.most!r}): 1 or more jobs at a time")
        _check_key("Concurrency(key=...)", self.key)


class Rate(Struct, frozen=True):
    """At most so many jobs start in a time, over all workers: "10/m", "5/s", "100/h", "1000/d", or "3/10s". They are
    spread evenly; after a rest up to `burst` start at once (by default one). `key` and `name` as in `Concurrency`."""

    rate: str
    key: Key | None = None
    burst: int = 1
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.burst, bool) or not isinstance(self.burst, int) or self.burst < 1:  # pyright: ignore
            raise DeclarationError(f"Rate(burst={self.burst!r}): 1 or more jobs at once")
        _check_key("Rate(key=...)", self.key)
        _ = self.per_second

    @property
    def per_second(self) -> float:
        """Jobs a second."""
        number, _, period = str(self.rate).partition("/")
        length, unit = period[:-1], period[-1:]
        try:
            per_second = float(number) / (float(length or 1) * UNITS[unit])
        except (ValueError, KeyError, ZeroDivisionError):
            per_second = 0.0
        if not 0 < per_second < float("inf"):
            raise DeclarationError(f"Rate({self.rate!r}): write a number and a time, as '10/m', '5/s' or '3/10s'")
        return per_second


Limit: TypeAlias = Concurrency | Rate


class UniqueRule(Struct, frozen=True, kw_only=True):
    """`unique=True` and what goes with it; times in seconds."""

    seconds: float | None = None
    key: Key | None = None
    conflict: Conflict = "return"
    patience: float | None = None


def unique_rule(
    unique: bool, seconds: float | timedelta | None, key: Key | None, conflict: Conflict | None
) -> UniqueRule | None:
    """The rule that the options of a declaration make. Raises DeclarationError for a contradiction."""
    if not isinstance(unique, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DeclarationError(f"unique={unique!r}: write True, and the key as unique_key=...")
    _check_key("unique_key=...", key)
    if conflict is not None and conflict not in get_args(Conflict):
        raise DeclarationError(f"on_conflict={conflict!r}: write 'return', 'replace' or 'raise'")
    if not unique and seconds is None and key is None:
        if conflict is not None:
            raise DeclarationError("on_conflict=... says nothing without unique=True")
        return None
    try:
        length = None if seconds is None else seconds_of(seconds)
    except ValueError as error:
        raise DeclarationError(f"unique_for: {error}") from None
    if length is not None and length <= 0:
        raise DeclarationError(f"unique_for={seconds!r}: more than 0 seconds are needed")
    return UniqueRule(seconds=length, key=key, conflict=conflict or "return")


def limits_of(limit: Limit | Sequence[Limit] | None) -> tuple[Limit, ...]:
    """The option `limit` as a tuple. Raises DeclarationError."""
    if limit is None or isinstance(limit, Concurrency | Rate):
        return () if limit is None else (limit,)
    limits: tuple[Any, ...] = tuple(limit) if isinstance(limit, list | tuple) else (limit,)
    for one in limits:
        if not isinstance(one, Concurrency | Rate):
            raise DeclarationError(f"limit={one!r}: write Concurrency(2) or Rate('10/m'), or a list of them")
    return limits


def as_fair_key(key: Key | None, error: type[ValueError]) -> Key | None:
    """The option `fair_key`, checked. Raises `error`."""
    if key is None or isinstance(key, str) or callable(key):
        return key
    raise error(f"fair_key={key!r}: write a text, or a function of the arguments: fair_key=lambda tenant, **_: tenant")


def _check_key(what: str, key: Key | None) -> None:
    if not (key is None or isinstance(key, str) or callable(key)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DeclarationError(f"{what}: {key!r} is no key; a text is needed, or a function of the job's arguments")


def ties_of(
    task: str,
    rule: UniqueRule | None,
    limits: Sequence[Limit],
    fair_key: Key | None,
    bind: Callable[[], inspect.BoundArguments],
    body: bytes,
) -> Ties | None:
    """What binds a call of this task to other jobs. `bind` gives its arguments, `body` is them encoded.

    Raises InvalidOption when a function that gives a key does not.
    """
    if rule is None and not limits and fair_key is None:
        return None
    arguments: dict[str, Any] = {}
    if callable(fair_key) or any(callable(one.key) for one in (rule, *limits) if one is not None):
        bound = bind()
        bound.apply_defaults()
        arguments = _by_name(bound)
    unique = None
    if rule is not None:
        key = sha256(body).hexdigest()[:32] if rule.key is None else _key(task, "unique_key", rule.key, arguments)
        unique = Unique(f"{task}:{key}", rule.seconds, rule.conflict, rule.patience)
    gates = tuple(_gate(task, limit, arguments) for limit in limits)
    fair = None if fair_key is None else _key(task, "fair_key", fair_key, arguments)
    return Ties(unique=unique, gates=gates, fair=fair)


def _by_name(bound: inspect.BoundArguments) -> dict[str, Any]:
    """The arguments by name, those of `**kwargs` among the others."""
    arguments = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= arguments.pop(parameter.name, {})
    return arguments


def _gate(task: str, limit: Limit, arguments: Mapping[str, Any]) -> Gate:
    name = limit.name or task
    what = type(limit).__name__
    key = (
        f"{what[0].lower()}:{name}"
        if limit.key is None
        else (f"{what[0].lower()}:{name}:{_key(task, f'the key of {what}', limit.key, arguments)}")
    )
    if isinstance(limit, Concurrency):
        return Gate(key, most=limit.most)
    return Gate(key, rate=limit.per_second, burst=limit.burst)


def _key(task: str, what: str, key: Key, arguments: Mapping[str, Any]) -> str:
    if isinstance(key, str):
        return _short(key)
    try:
        value = key(**arguments)
    except Exception as error:
        raise InvalidOption(
            f"{task}: {what} raised {type(error).__name__}: {error}. It is called with the job's arguments by name: "
            f"write lambda {', '.join(arguments)}: ..., or end it with **_. Nothing was enqueued"
        ) from error
    if not isinstance(value, str | int | UUID) or isinstance(value, bool):
        raise InvalidOption(
            f"{task}: {what} gave {value!r}; a text, a whole number or a UUID is needed. Nothing was enqueued"
        )
    return _short(str(value))


def _short(key: str) -> str:
    """Keys stand in an index: a long one by its digest."""
    return key if len(key) <= 100 and key.isprintable() else sha256(key.encode("utf-8", "replace")).hexdigest()[:40]
