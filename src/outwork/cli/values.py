"""Arguments of a task as they are typed on a command line, read by the task's type hints."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import click
import msgspec

from outwork.errors import WrongArguments

_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def read_arguments(
    words: Sequence[str], signature: inspect.Signature, hints: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Split `value...` and `name=value...` and read each by its parameter's hint.

    A word is `name=value` where what stands before its first `=` is an identifier, so that a URL with a query is a
    value. Raises click.UsageError, and WrongArguments for a value that does not fit its hint.
    """
    parameters = list(signature.parameters.values())
    in_order = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if equals and name.isidentifier():
            if name in named:
                raise click.UsageError(f"{name} is given twice")
            named[name] = read_value(text, _hint_of(name, parameters, hints), name)
            continue
        if named:
            raise click.UsageError(f"{word!r} stands behind name=value: give the values without a name first")
        parameter = in_order[len(positional)] if len(positional) < len(in_order) else rest
        hint = Any if parameter is None else hints.get(parameter.name, Any)
        positional.append(read_value(word, hint, parameter.name if parameter else "argument"))
    return positional, named


def _hint_of(name: str, parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any]) -> Any:
    """The hint of a named argument; one that no parameter takes is refused later, with the task's signature."""
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD or (parameter.name == name and parameter.kind in _NAMED):
            return hints.get(parameter.name, Any)
    return Any


def read_value(text: str, hint: Any, name: str) -> Any:
    """The value that a text means where `hint` is expected: as JSON, else as plain text.

    `5` is a number for an int and a text for a str; without a hint it is what JSON says, else text. For a union JSON
    is tried first. Raises WrongArguments.
    """
    if hint is str:
        return text
    candidates: list[Any] = []
    with suppress(msgspec.DecodeError, UnicodeEncodeError):  # not JSON: plain text is the other reading
        candidates.append(msgspec.json.decode(text))
    if hint is Any or hint is inspect.Parameter.empty:
        return candidates[0] if candidates else text
    problem: Exception | None = None
    for strict, candidate in [*((True, value) for value in candidates), (False, text)]:
        try:
            return _aware(msgspec.convert(candidate, hint, strict=strict, dec_hook=_from_json))
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            problem = problem or error
    shown = getattr(hint, "__name__", None) or str(hint)
    raise WrongArguments(f"{name}={text} is not a value for {shown}: {problem}. Nothing was enqueued") from problem


def _aware(value: Any) -> Any:
    """A moment typed without a time zone is meant in that of the machine."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.astimezone()
    return value


def _from_json(hint: Any, value: Any) -> Any:
    """What msgspec does not know: pydantic models, subclasses of the plain types."""
    if hasattr(hint, "model_validate"):
        return hint.model_validate(value)
    if isinstance(hint, type) and issubclass(hint, str | int | float) and isinstance(value, str | int | float):
        return hint(value)
    raise TypeError(f"a value of {hint!r} cannot be written on a command line")
