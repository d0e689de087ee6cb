"""Arguments and results as Django's task API has them: plain JSON, positional and keyword arguments kept apart.

Django does not look at type hints. It makes lists of tuples and text of UTF-8 bytes, and refuses what JSON has no form
for; here that is done at the call, and whatever comes out is what every later look at the result shows.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Raw

from outwork.contrib.django.compat import normalize_json
from outwork.declaring.payload import Payload, misfit
from outwork.errors import NotSerializable, PayloadTooLarge, ResultNotSerializable, Undecodable, WrongArguments

PLAIN: Final = (str, int, float, bool)


_encode: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def to_json(value: Any) -> str:
    """Raises TypeError, ValueError, RecursionError for what JSON cannot carry."""
    return _encode(normalize_json(value))


class DjangoPayload(Payload):
    """How the arguments and the result of a Django task travel: `{"args": [...], "kwargs": {...}}`."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        skip: int,
        on_value: Callable[[Any], None] | None = None,
    ) -> None:
        self.name = name
        # A decorated function may be given what its wrapper takes; only what is called can say.
        whole = _signature(function)
        self.signature = whole.replace(parameters=list(whole.parameters.values())[skip:])
        self.hints = {
            key: parameter.annotation
            for key, parameter in self.signature.parameters.items()
            if parameter.annotation in PLAIN
        }
        self.provisions = ()
        self._on_value = on_value

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], limit: int = 1_048_576) -> Raw:
        self._refuse_unless_it_fits(args, kwargs)
        try:
            body = to_json({"args": list(args), "kwargs": dict(kwargs)}).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise self._refused(args, kwargs, error) from error
        if len(body) > limit:
            raise PayloadTooLarge(
                f"{self.name}(): the arguments take {len(body):,} bytes, more than max_payload = {limit:,}. Store the "
                "data and pass a reference to it. Nothing was enqueued"
            )
        return Raw(body)

    def identity(self, body: Raw, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """An argument is the same one whether it was named or not."""
        return to_json(self.signature.bind(*args, **kwargs).arguments).encode()

    def decode(self, body: Raw) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            given = json.loads(str(body, "utf-8"))
            args, kwargs = given["args"], given["kwargs"]
        except (ValueError, TypeError, KeyError) as error:
            raise Undecodable(
                f"the stored arguments of {self.name} are not those of a Django task "
                f'({{"args": [...], "kwargs": {{...}}}}): {error!r}'
            ) from error
        return tuple(args), dict(kwargs)

    def encode_result(self, value: Any) -> bytes:
        try:
            body = to_json(value).encode()
        except Exception as error:  # a lazy text may raise anything
            raise ResultNotSerializable(f"{self.name} returned a {_kind(value)}: {error}") from error
        if self._on_value is not None:
            self._on_value(value if value is None or type(value) in PLAIN else json.loads(body))
        return body

    def decode_result(self, body: bytes) -> Any:
        return json.loads(body)

    def _refuse_unless_it_fits(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            said = misfit(self.signature, kwargs, error)
            raise WrongArguments(
                f"{self.name}() {said}. Signature: {self.name}{self.signature}. Nothing was enqueued"
            ) from None

    def _refused(self, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception) -> NotSerializable:
        """Names the argument that cannot be sent, and says what to send instead."""
        given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        for key, value in given:
            try:
                to_json(value).encode()
            except (TypeError, ValueError, RecursionError) as cause:
                names = list(self.signature.parameters)
                name = names[key] if isinstance(key, int) and key < len(names) else key
                return NotSerializable(
                    f"{self.name}(): argument {name} is a {_kind(value)}: {cause}. {_advice(value)} Nothing was "
                    "enqueued"
                )
        return NotSerializable(f"{self.name}(): {error}. Nothing was enqueued")


def required_parameters(function: Callable[..., Any], *, skip: int) -> list[str]:
    """The arguments that every call must give."""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = list(_signature(function).parameters.values())[skip:]
    return [one.name for one in parameters if one.default is one.empty and one.kind not in optional]


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, follow_wrapped=False, eval_str=True)
    except Exception:  # noqa: BLE001 - a hint that cannot be evaluated may raise anything, and is shown as it is written
        return inspect.signature(function, follow_wrapped=False)


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _advice(value: Any) -> str:
    if hasattr(type(value), "_meta") and hasattr(value, "pk"):
        return "Pass the id of a model instance (its pk) and load it in the task."
    if hasattr(value, "isoformat"):
        return "Pass value.isoformat() and read it in the task."
    if isinstance(value, float):
        return "JSON has no NaN and no infinity: pass None."
    if isinstance(value, set | frozenset):
        return "Pass a list."
    if inspect.isroutine(value) or isinstance(value, type):
        return "Code cannot be sent to another process: pass a name."
    return "Pass numbers, text, lists and dicts."
