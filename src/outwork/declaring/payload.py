"""A task's arguments and result as JSON, typed by its hints.

For each function one msgspec Struct is made with a field for each parameter: building it binds the arguments (wrong,
missing and unknown ones are refused), encoding it gives a JSON object by parameter name, and decoding that with the
same type checks the values. `encode` does all three, so what is accepted at the call can be decoded by a worker.
Arguments that the caller leaves out are left out on the wire: the default is that of the code that runs.
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import datetime
from difflib import get_close_matches
from types import GenericAlias
from typing import Any, Final, NoReturn, TypeAlias, Union, get_type_hints

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from outwork.declaring.providers import Provided, Provision
from outwork.errors import (
    HintError,
    NaiveDatetime,
    NotSerializable,
    PayloadTooLarge,
    ResultNotSerializable,
    Undecodable,
    WrongArguments,
)
from outwork.habits import explain_argument

MAX_PAYLOAD: Final = 1_048_576

Plan: TypeAlias = Callable[[Sequence[inspect.Parameter], Mapping[str, Any]], tuple[Provision, ...]]

_POSITIONAL = inspect.Parameter.POSITIONAL_ONLY
_PLAIN = inspect.Parameter.POSITIONAL_OR_KEYWORD
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD


def _to_json(value: Any) -> Any:
    """What msgspec does not know itself: subclasses of the plain types, pydantic models."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if hasattr(type(value), "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(_advice(value))


def _from_json(hint: Any, value: Any) -> Any:
    """The way back for types that msgspec does not know: pydantic models, subclasses of the plain types."""
    if hasattr(hint, "model_validate"):
        return hint.model_validate(value)
    if isinstance(hint, type) and issubclass(hint, str | int | float) and isinstance(value, str | int | float):
        return hint(value)
    raise TypeError(f"a value of {hint!r} cannot be made from JSON")


_encode = msgspec.json.Encoder(enc_hook=_to_json).encode


class _Written(str):
    """A type hint as its source has it, shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature, to be bound and to be read by people: below `from __future__ import annotations`, too."""
    found = inspect.signature(function)
    parameters = [one.replace(annotation=_shown(one.annotation)) for one in found.parameters.values()]
    return found.replace(parameters=parameters, return_annotation=_shown(found.return_annotation))


def _shown(annotation: object) -> object:
    return _Written(annotation) if isinstance(annotation, str) else annotation


def misfit(signature: inspect.Signature, kwargs: Mapping[str, Any], error: TypeError) -> str:
    """Why these arguments do not fit: `error`, which came of it, or the typo that is behind it."""
    known = list(signature.parameters)
    unknown = next((key for key in kwargs if key not in known), None)
    if unknown is not None and (close := get_close_matches(unknown, known, n=1)):
        return f"got an unexpected keyword argument {unknown!r} (did you mean {close[0]!r}?)"
    if unknown is not None and (instead := explain_argument(unknown)):
        return f"{error}. Options stand before the call: {instead}"
    return str(error)


class Payload:
    """How the arguments and the result of one function travel. Made once for a task, its hints resolved at first use.

    `skip` is how many leading parameters are not the caller's (1 for a task that takes its context); `plan` says which
    of the others are provided where the job runs: these are no part of the payload.
    """

    def __init__(self, function: Callable[..., Any], name: str, *, skip: int = 0, plan: Plan | None = None) -> None:
        self.name = name
        whole = _signature_of(function)
        parameters = list(whole.parameters.values())[skip:]
        self.hints = _resolved_hints(function, name)
        self.provisions = plan(parameters, self.hints) if plan else ()
        if self.provisions:
            provided = {provision.name for provision in self.provisions}
            parameters = [parameter for parameter in parameters if parameter.name not in provided]
        self._partial: dict[str, Payload] = {}
        self._set_up(whole.replace(parameters=parameters))

    def _set_up(self, signature: inspect.Signature) -> None:
        """What follows from the parameters of the payload."""
        self.signature = signature
        self._parameters = parameters = list(signature.parameters.values())
        self._plain = all(p.kind in (_PLAIN, _KEYWORD) for p in parameters)
        self._positional = all(p.kind is _PLAIN for p in parameters) and not self.provisions
        self._loose = frozenset(p.name for p in parameters if self._hint(p) is Any)
        try:
            self._struct = self._make_struct()
            self._decode = msgspec.json.Decoder(self._struct, dec_hook=_from_json).decode
            self._decode_result = msgspec.json.Decoder(self.hints.get("return", Any), dec_hook=_from_json).decode
        except TypeError as error:
            raise HintError(f"{self.name}{signature}: a type hint cannot be carried by JSON: {error}") from error
        self._has_datetime = "DateTimeType" in repr(msgspec.inspect.type_info(self._struct))

    def without(self, parameter: str) -> Payload:
        """The payload of a call whose argument for this parameter is added later."""
        if parameter not in self._partial:
            others = [one for one in self._parameters if one.name != parameter]
            partial = copy.copy(self)
            partial._partial = {}
            partial._set_up(self.signature.replace(parameters=others))
            self._partial[parameter] = partial
        return self._partial[parameter]

    # ---- arguments --------------------------------------------------------------------------------------------------

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], limit: int = MAX_PAYLOAD) -> Raw:
        """Bind, encode and check the arguments of a call.

        Raises WrongArguments, NotSerializable, NaiveDatetime, PayloadTooLarge; each names the argument.
        """
        try:
            given = self._struct(*args, **kwargs) if self._plain else self._bind(args, kwargs)
        except TypeError as error:
            self._refuse_binding(args, kwargs, error)
        try:
            body = _encode(given)
            read = self._decode(body)
        except (TypeError, ValueError, RecursionError) as error:
            self._refuse_values(given, error)
        if len(body) > limit:
            self._refuse_size(given, len(body), limit)
        self._check(given, read, body)
        return Raw(body)

    def identity(self, body: Raw, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """What two calls with the same arguments have in common: here all arguments are named already."""
        return bytes(body)

    def decode(self, body: Raw) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments to call the function with.

        Raises Undecodable when the code's hints and the stored arguments do not fit (any more).
        """
        try:
            read = self._decode(body)
        except (msgspec.DecodeError, TypeError, ValueError) as error:
            raise Undecodable(f"the stored arguments do not fit {self.name}{self.signature}: {error}") from error
        if self._positional:
            values = msgspec.structs.astuple(read)
            if UNSET not in values:
                return values, {}
        return self._spread(read)

    def _spread(self, read: Struct) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        by_position = not self.provisions  # which may stand between the others
        for parameter in self._parameters:
            value = getattr(read, parameter.name)
            if value is UNSET:
                by_position = by_position and parameter.kind is _VAR_POSITIONAL
            elif parameter.kind is _VAR_POSITIONAL:
                args.extend(value)
            elif parameter.kind is _VAR_KEYWORD:
                kwargs.update(value)
            elif parameter.kind is _POSITIONAL or (by_position and parameter.kind is _PLAIN):
                args.append(value)
            else:
                kwargs[parameter.name] = value
        return tuple(args), kwargs

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Struct:
        bound: dict[str, Any] = self.signature.bind(*args, **kwargs).arguments
        return self._struct(**bound)

    # ---- results ----------------------------------------------------------------------------------------------------

    def encode_result(self, value: Any) -> bytes:
        """The return value as JSON. Raises ResultNotSerializable."""
        if value is None:
            return b"null"
        try:
            body = _encode(value)
        except Exception as error:
            raise ResultNotSerializable(f"{self.name} returned a {type(value).__qualname__}: {error}") from error
        if b"null" in body and (path := _find(value, _is_nan)) is not None:
            raise ResultNotSerializable(
                f"{self.name} returned NaN or an infinity (at {path or 'the value'}): JSON has none"
            )
        return body

    def decode_result(self, body: bytes) -> Any:
        """The return value, typed by the function's hint. Raises Undecodable when they do not fit."""
        try:
            return self._decode_result(body)
        except (msgspec.DecodeError, TypeError, ValueError) as error:
            raise Undecodable(f"the stored result of {self.name} does not fit its return hint: {error}") from error

    # ---- the checks beyond types ------------------------------------------------------------------------------------

    def _check(self, given: Struct, read: Struct, body: bytes) -> None:
        """No silent change of type on the way; no NaN; no naive datetime."""
        if self._loose or given != read:
            for name in self._struct.__struct_fields__:
                self._check_one(name, getattr(given, name), getattr(read, name))
        if b"null" in body:
            self._refuse_nan(given)
        if self._has_datetime and (path := _find(given, _is_naive)) is not None:
            raise NaiveDatetime(
                f"{self.name}: argument {path[1:]} is a datetime without a time zone. Write, for example, "
                "datetime.now(timezone.utc)"
            )

    def _check_one(self, name: str, sent: Any, got: Any) -> None:
        if name in self._loose and _find(sent, _is_nan) is None:
            if not _same(sent, got):
                self._refuse_loose(name, sent)
        elif type(sent) is not type(got) and not _kin(sent, got):
            self._refuse_kind(name, sent, got)

    def _refuse_nan(self, given: Struct) -> None:
        path = _find(given, _is_nan)
        if path is not None:
            raise NotSerializable(
                f"{self.name}: argument {path[1:]} is NaN or an infinity, which JSON cannot carry. Send None"
            ) from None

    def _refuse_binding(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: TypeError) -> NoReturn:
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as clearer:
            error = clearer
        said = misfit(self.signature, kwargs, error)
        raise WrongArguments(
            f"{self.name}() {said}. Signature: {self.name}{self.signature}. Nothing was enqueued"
        ) from None

    def _refuse_values(self, given: Struct, error: Exception) -> NoReturn:
        for name in self._struct.__struct_fields__:
            value = getattr(given, name)
            if value is UNSET:
                continue
            try:
                _encode(value)
            except (TypeError, ValueError, RecursionError) as cause:
                raise NotSerializable(
                    f"{self.name}(): argument {name} is a {_kind(value)}: {cause}. Nothing was enqueued"
                ) from None
        self._refuse_nan(given)
        raise NotSerializable(
            f"{self.name}{self.signature}: {error}. Pass a value of the declared type. Nothing was enqueued"
        ) from None

    def _refuse_loose(self, name: str, value: Any) -> NoReturn:
        raise NotSerializable(
            f"{self.name}(): argument {name} has no type hint, so it takes only what JSON gives back unchanged; a "
            f"{_kind(value)} is not. Annotate it, for example  {name}: {type(value).__name__}. Nothing was enqueued"
        )

    def _refuse_kind(self, name: str, sent: Any, got: Any) -> NoReturn:
        if got is None:
            raise NotSerializable(
                f"{self.name}(): argument {name} is NaN or an infinity, which JSON cannot carry. Send None"
            )
        raise NotSerializable(
            f"{self.name}(): argument {name} is a {_kind(sent)}, but the task would get a {type(got).__qualname__}. "
            f"Annotate {name} with the type that is sent, or convert it before. Nothing was enqueued"
        )

    def _refuse_size(self, given: Struct, size: int, limit: int) -> NoReturn:
        values = {name: value for name in given.__struct_fields__ if (value := getattr(given, name)) is not UNSET}
        largest = max(values, key=lambda name: len(_encode(values[name])))
        raise PayloadTooLarge(
            f"{self.name}(): the arguments take {size:,} bytes, more than max_payload = {limit:,} (the largest is "
            f"{largest}). Store the data and pass a reference to it. Nothing was enqueued"
        )

    # ---- making the struct ------------------------------------------------------------------------------------------

    def _hint(self, parameter: inspect.Parameter) -> Any:
        hint = self.hints.get(parameter.name, Any)
        return Any if hint is object else hint

    def _make_struct(self) -> type[Struct]:
        """One field a parameter; keyword-only ones in a subclass, because a Struct's `kw_only` is per class."""
        leading: list[Any] = []
        trailing: list[Any] = []
        for parameter in self._parameters:
            hint: Any = self._hint(parameter)
            optional = parameter.default is not inspect.Parameter.empty
            if parameter.kind is _VAR_POSITIONAL:
                hint, optional = GenericAlias(tuple, (hint, ...)), True
            elif parameter.kind is _VAR_KEYWORD:
                hint, optional = GenericAlias(dict, (str, hint)), True
            field = (parameter.name, Union[hint, UnsetType], UNSET) if optional else (parameter.name, hint)  # noqa: UP007
            (trailing if parameter.kind in (_KEYWORD, _VAR_POSITIONAL, _VAR_KEYWORD) else leading).append(field)
        base: type[Struct] = msgspec.defstruct("Arguments", leading, gc=False)
        if not trailing:
            return base
        return msgspec.defstruct("Arguments", trailing, bases=(base,), kw_only=True, gc=False)


def _resolved_hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """The function's hints; those that cannot be resolved (a TYPE_CHECKING import) become Any, with one warning."""
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - evaluating a hint may raise anything; each is tried again on its own below
        hints: dict[str, Any] = {}
        lost: list[str] = []
    inner = inspect.unwrap(function)
    scope = getattr(inner, "__globals__", {})
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    for parameter, hint in inspect.get_annotations(inner).items():
        if isinstance(defaults.get(parameter), Provided):
            continue  # not the payload's
        try:
            hints[parameter] = get_type_hints(_Holder(parameter, hint), globalns=scope, include_extras=True)[parameter]
        except Exception:  # noqa: BLE001 - named in the warning
            lost.append(parameter)
    if not lost:
        return hints
    warnings.warn(
        f"{name}: the type hints of {', '.join(lost)} cannot be resolved at run time, so these take only what JSON "
        "gives back unchanged. Import the type outside `if TYPE_CHECKING:`",
        stacklevel=2,
    )
    return hints


class _Holder:
    """Something with one annotation, for `get_type_hints`."""

    def __init__(self, name: str, hint: Any) -> None:
        self.__annotations__ = {name: hint}


def _same(sent: Any, got: Any) -> bool:
    """Whether JSON gave the value back unchanged, types included."""
    if type(sent) is not type(got):
        return False
    if isinstance(sent, dict):
        return sent.keys() == got.keys() and all(_same(value, got[key]) for key, value in sent.items())
    if isinstance(sent, list):
        return len(sent) == len(got) and all(map(_same, sent, got))
    return bool(sent == got)


def _kin(sent: Any, got: Any) -> bool:
    """Whether a typed value may change its type on the way: to its base, int to float, one collection to another."""
    if isinstance(sent, type(got)):
        return not isinstance(sent, bool)
    if isinstance(got, float):
        return isinstance(sent, int) and not isinstance(sent, bool)
    if isinstance(got, bytes):
        return isinstance(sent, bytearray | memoryview)
    collections = (list, tuple, set, frozenset)
    return (isinstance(got, collections) and isinstance(sent, collections)) or (
        isinstance(got, dict) and isinstance(sent, Mapping)
    )


def _find(value: Any, wrong: Callable[[Any], bool], path: str = "") -> str | None:
    """The path (`.name[0]`) of the first value inside that is wrong, or None."""
    if wrong(value):
        return path
    inner: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        inner = [(f"[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = [(f"[{index}]", item) for index, item in enumerate(value)]
    elif isinstance(value, Struct):
        inner = [(f".{name}", getattr(value, name)) for name in value.__struct_fields__]
    elif is_dataclass(value) and not isinstance(value, type):
        inner = [(f".{field.name}", getattr(value, field.name)) for field in dataclass_fields(value)]
    for step, item in inner:
        found = _find(item, wrong, path + step)
        if found is not None:
            return found
    return None


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _is_naive(value: Any) -> bool:
    return isinstance(value, datetime) and value.tzinfo is None


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


_GENERAL: Final = "it cannot be sent to another process; pass plain data (numbers, text, lists, dicts, dataclasses)"


def _advice(value: Any) -> str:
    """What to send instead of something that cannot be sent."""
    kind = type(value)
    if hasattr(kind, "_meta") and hasattr(value, "pk"):
        return (
            "a Django model instance cannot be sent to another process; pass its id (value.pk) and load it in the task"
        )
    if hasattr(kind, "__mapper__"):
        return "an SQLAlchemy object cannot be sent to another process; pass its id and load it in the task"
    if kind.__name__.lower().endswith("request"):
        return "a request cannot be sent to another process; pass the values that the task needs"
    if inspect.isroutine(value) or isinstance(value, type):
        return "code cannot be sent to another process; pass a name and look it up in the task"
    if kind.__module__ in ("_thread", "threading", "asyncio.locks", "multiprocessing.synchronize"):
        return "a lock cannot be sent to another process; take it inside the task"
    if hasattr(value, "read") and hasattr(value, "close"):
        return "an open file cannot be sent to another process; pass its path or its content (bytes)"
    if inspect.isawaitable(value) or inspect.isgenerator(value):
        return "it can only be consumed in this process; pass a list of its values"
    return _GENERAL
