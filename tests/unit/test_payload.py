"""What travels, what is refused at the call, and what the refusal says."""

from __future__ import annotations

import asyncio
import base64
import io
import math
import threading
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NewType, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outwork.declaring.payload import Payload
from outwork.errors import (
    EnqueueError,
    HintError,
    NaiveDatetime,
    NotSerializable,
    PayloadTooLarge,
    ResultNotSerializable,
    Undecodable,
    WrongArguments,
)

if TYPE_CHECKING:
    from fractions import Fraction

UserId = NewType("UserId", int)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Kind(StrEnum):
    A = "a"


@dataclass
class Point:
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Order:
    id: uuid.UUID
    total: Decimal
    placed: datetime
    where: Point


class Address(msgspec.Struct):
    street: str
    code: int | None = None


class Tagged(msgspec.Struct, tag=True):
    name: str


class Other(msgspec.Struct, tag=True):
    name: str


class Pair(NamedTuple):
    left: int
    right: str


class Row(TypedDict):
    id: int
    name: str


class Email(str):
    """Text that knows it is an address."""


class Celsius(float):
    pass


def there_and_back(hint: Any, value: Any) -> Any:
    """What a task with one parameter of this hint gets for this value."""

    def fn(value: Any) -> None: ...

    fn.__annotations__ = {"value": hint}
    payload = Payload(fn, "fn")
    args, kwargs = payload.decode(payload.encode((value,), {}))
    assert kwargs == {}
    return args[0]


NOW = datetime(2024, 2, 29, 12, 30, 1, 123456, tzinfo=UTC)

SAME: list[tuple[Any, Any]] = [
    (int, 2**60),
    (int, -5),
    (bool, True),
    (float, 0.1),
    (str, "ä 🎈 \x00 \u2028"),
    (bytes, bytes(range(256))),
    (None, None),
    (int | None, None),
    (datetime, NOW),
    (datetime, NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))),
    (date, date(2024, 2, 29)),
    (time, time(1, 2, 3)),
    (timedelta, timedelta(days=2, microseconds=5)),
    (uuid.UUID, uuid.UUID(int=7)),
    (Decimal, Decimal("12345678901234567890.000000001")),
    (Color, Color.BLUE),
    (Level, Level.HIGH),
    (Kind, Kind.A),
    (Literal["a", "b"], "b"),
    (Point, Point(1, 2, ["t"])),
    (Order, Order(uuid.UUID(int=7), Decimal("9.90"), NOW, Point(1))),
    (Address, Address("Main", 5)),
    (Tagged | Other, Other("o")),
    (Pair, Pair(1, "r")),
    (Row, {"id": 1, "name": "n"}),
    (UserId, 5),
    (Annotated[int, "positive"], 5),
    (list[Point], [Point(1)]),
    (dict[str, list[Color]], {"k": [Color.RED]}),
    (dict[int, str], {1: "one"}),
    (dict[uuid.UUID, int], {uuid.UUID(int=7): 1}),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (Sequence[int], [1, 2]),
    (Mapping[str, int], {"a": 1}),
    (str | int | None, 5),
    (Email, Email("a@b.example")),
    (Any, {"a": [1, 2.5, None, "x", True, {}]}),
    (object, [1, "a"]),
]


@pytest.mark.parametrize(("hint", "value"), SAME)
def test_it_arrives_as_what_it_was(hint: Any, value: Any) -> None:
    got = there_and_back(hint, value)
    assert got == value
    assert type(got) is type(value)


def test_a_text_of_a_subclass_arrives_as_text() -> None:
    got = there_and_back(str, Email("a@b.example"))
    assert (got, type(got)) == ("a@b.example", str)
    got = there_and_back(Any, "plain")
    assert type(got) is str


def test_an_int_where_a_float_is_wanted_arrives_as_a_float() -> None:
    got = there_and_back(float, 3)
    assert (got, type(got)) == (3.0, float)


def test_attrs_classes_arrive() -> None:
    attrs: Any = pytest.importorskip("attrs", reason="attrs is not installed")

    class Plain:
        doors: int
        owner: str = "nobody"

    Car = attrs.define(Plain)

    assert there_and_back(Car, Car(5)) == Car(5)
    with pytest.raises(NotSerializable, match="doors"):
        there_and_back(Car, Car("five"))


def test_pydantic_models_arrive() -> None:
    pydantic: Any = pytest.importorskip("pydantic", reason="pydantic is not installed")

    class User(pydantic.BaseModel):  # type: ignore[misc]
        name: str
        born: date
        balance: Decimal

    user = User(name="Ada", born=date(1815, 12, 10), balance=Decimal("1.50"))
    got = there_and_back(User, user)
    assert got == user
    assert type(got) is User
    assert there_and_back(list[User], [user]) == [user]
    with pytest.raises(NotSerializable):
        there_and_back(User, {"name": "Ada"})


# ---- no coercion, no silent change ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "1"),
        (str, 1),
        (int, 1.5),
        (int, True),
        (bool, 1),
        (float, "1.0"),
        (list[int], [1, "2"]),
        (dict[str, int], {"a": "1"}),
        (int, None),
        (Point, Address("x")),
        (Color, "green"),
        (Literal["a"], "b"),
        (date, "yesterday"),
        (Point, {"x": "1"}),
    ],
)
def test_a_value_of_another_type_is_refused(hint: Any, value: Any) -> None:
    with pytest.raises(EnqueueError, match=r"value|x"):
        there_and_back(hint, value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (str, NOW),
        (str, uuid.UUID(int=7)),
        (str, Decimal("1.5")),
        (str, Color.RED),
        (str, b"bytes"),
        (int, Level.HIGH),
    ],
)
def test_what_would_arrive_as_something_else_is_refused_or_is_its_base(hint: Any, value: Any) -> None:
    """A datetime for a `str` would arrive as text; an IntEnum for an int is an int."""
    if isinstance(value, hint):
        assert there_and_back(hint, value) == value
        return
    with pytest.raises(NotSerializable, match=r"argument value is a .*but the task would get a str"):
        there_and_back(hint, value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_is_refused_at_any_depth(bad: float) -> None:
    for hint, value in (
        (float, bad),
        (float | None, bad),
        (list[float], [1.0, bad]),
        (dict[str, list[float]], {"a": [bad]}),
        (Any, {"deep": [{"er": bad}]}),
        (Any, bad),
        (list[float | None], [None, bad]),
    ):
        with pytest.raises(NotSerializable, match=r"argument value.*(NaN|infinity)"):
            there_and_back(hint, value)


def test_nan_in_a_dataclass_is_refused() -> None:
    @dataclass
    class Reading:
        value: float | None

    def fn(reading: Any) -> None: ...

    fn.__annotations__ = {"reading": Reading}
    payload = Payload(fn, "fn")
    with pytest.raises(NotSerializable, match=r"reading\.value is NaN"):
        payload.encode((Reading(math.nan),), {})


def test_none_is_not_nan() -> None:
    assert there_and_back(list[float | None], [None, 1.0]) == [None, 1.0]


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (datetime, datetime(2024, 1, 1)),
        (datetime | None, datetime(2024, 1, 1)),
        (list[datetime], [NOW, datetime(2024, 1, 1)]),
        (Order, Order(uuid.UUID(int=7), Decimal(1), datetime(2024, 1, 1), Point(1))),
    ],
)
def test_a_naive_datetime_is_refused(hint: Any, value: Any) -> None:
    with pytest.raises(NaiveDatetime, match=r"argument value.*without a time zone.*datetime\.now\(timezone\.utc\)"):
        there_and_back(hint, value)


# ---- without a hint -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        NOW,
        b"bytes",
        {1, 2},
        (1, 2),
        uuid.UUID(int=7),
        Decimal("1"),
        Point(1),
        {1: "int key"},
        [{"deep": (1,)}],
        Email("a@b.example"),
        Color.RED,
        Level.LOW,
        timedelta(1),
    ],
)
def test_without_a_hint_only_json_goes(value: Any) -> None:
    def fn(thing, /) -> None: ...  # type: ignore[no-untyped-def]

    payload = Payload(fn, "shop.fn")
    with pytest.raises(NotSerializable, match=r"(?s)argument thing.*Annotate it, for example  thing: "):
        payload.encode((value,), {})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_without_a_hint_all_json_goes(value: Any) -> None:
    def fn(thing: Any) -> None: ...

    payload = Payload(fn, "fn")
    body = payload.encode((value,), {})
    [got], _ = payload.decode(body)
    assert repr(got) == repr(value)


def only_while_checking(value: Fraction, count: int) -> None: ...


def test_a_hint_that_cannot_be_resolved_is_said_once() -> None:
    with pytest.warns(UserWarning, match=r"only: the type hints of value cannot be resolved.*TYPE_CHECKING") as caught:
        payload = Payload(only_while_checking, "only")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        payload.encode((5, 1), {})
        payload.encode(("text", 1), {})
        with pytest.raises(NotSerializable, match="Annotate it"):
            payload.encode((NOW, 1), {})
        with pytest.raises(EnqueueError, match="count"):
            payload.encode((5, "one"), {})


@pytest.mark.parametrize("hint", [datetime | str, str | uuid.UUID, Point | Address, list[int] | set[int], date | str])
def test_a_union_that_json_cannot_tell_apart_is_an_error(hint: Any) -> None:
    def fn(value: Any) -> None: ...

    fn.__annotations__ = {"value": hint}
    with pytest.raises(HintError, match=r"fn\("):
        Payload(fn, "fn")


# ---- binding --------------------------------------------------------------------------------------------------------


def all_kinds(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> None: ...


CALLS: list[tuple[tuple[int, ...], dict[str, int]]] = [
    ((1, 2), {"d": 4}),
    ((1,), {"b": 2, "d": 4}),
    ((1, 2, 30, 40, 50), {"d": 4, "e": 6, "x": 7, "y": 8}),
    ((1, 2), {"c": 9, "d": 4, "z": 1}),
    ((1,), {"d": 4, "c": 1, "b": 0}),
]


@pytest.mark.parametrize(("args", "kwargs"), CALLS)
def test_every_kind_of_parameter(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    seen: list[Any] = []

    def fn(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> None:
        seen.append((a, b, c, rest, d, e, more))

    payload = Payload(fn, "fn")
    got_args, got_kwargs = payload.decode(payload.encode(args, kwargs))
    fn(*args, **kwargs)
    fn(*got_args, **got_kwargs)
    assert seen[0] == seen[1]


def test_defaults_are_those_of_the_worker() -> None:
    """What the caller leaves out is left out on the wire."""

    def fn(a: int, b: str = "old", *, c: list[int] | None = None) -> None: ...

    payload = Payload(fn, "fn")
    assert bytes(payload.encode((1,), {})) == b'{"a":1}'

    def newer(a: int, b: str = "new", d: bool = False, *, c: list[int] | None = None) -> tuple[Any, ...]:
        return a, b, c, d

    args, kwargs = Payload(newer, "fn").decode(payload.encode((1,), {"c": [1]}))
    assert newer(*args, **kwargs) == (1, "new", [1], False)


def test_a_default_need_not_be_json() -> None:
    def fn(a: int = 1, lock: Any = threading.Lock(), when: datetime = NOW) -> None: ...  # noqa: B008

    assert bytes(Payload(fn, "fn").encode((), {})) == b"{}"


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, r"missing a required argument: 'name'"),
        (("a", 1, 2), {}, r"too many positional arguments"),
        ((), {"nam": "a"}, r"unexpected keyword argument 'nam' \(did you mean 'name'\?\)"),
        (("a",), {"tmies": 2}, r"unexpected keyword argument 'tmies' \(did you mean 'times'\?\)"),
        (("a",), {"name": "b"}, r"multiple values for argument 'name'"),
        (
            ("a",),
            {"countdown": 5},
            r"Options stand before the call: task\.using\(run_after=\.\.\.\)\.enqueue\(\.\.\.\)",
        ),
        (
            ("a",),
            {"queue": "mail"},
            r"'queue'\. Options stand before the call: task\.using\(queue_name=\.\.\.\)\.enqueue",
        ),
        (("a",), {"priority": 5}, r"task\.using\(priority=\.\.\.\)\.enqueue"),
        (("a",), {"max_retries": 5}, r"'max_retries'\. Signature"),
    ],
)
def test_wrong_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], said: str) -> None:
    def greet(name: str, times: int = 1) -> None: ...

    with pytest.raises(WrongArguments, match=said) as caught:
        Payload(greet, "shop.greet").encode(args, kwargs)
    assert "shop.greet(name: str, times: int = 1)" in str(caught.value)
    assert "Nothing was enqueued" in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_the_context_is_not_the_callers() -> None:
    def fn(context: Any, x: int) -> None: ...

    payload = Payload(fn, "fn", skip=1)
    assert payload.decode(payload.encode((1,), {})) == ((1,), {})
    with pytest.raises(WrongArguments):
        payload.encode((), {"context": 1, "x": 1})


def test_parameters_of_any_name() -> None:
    """A parameter may be called like something that msgspec, or we, use ourselves."""

    def fn(self: int, cls: int, args: int, kwargs: int, name: int, type: int, tag: int, _private: int = 0) -> None: ...

    payload = Payload(fn, "fn")
    args, kwargs = payload.decode(payload.encode((1, 2, 3, 4, 5), {"type": 6, "tag": 7, "_private": 8}))
    assert args == (1, 2, 3, 4, 5, 6, 7, 8)
    assert kwargs == {}


# ---- what cannot be sent ---------------------------------------------------------------------------------------------


class DjangoModel:
    """As Django's models look."""

    _meta = SimpleNamespace()
    pk = 42


class Mapped:
    """As SQLAlchemy's objects look."""

    __mapper__ = object()


class HttpRequest:
    pass


async def coroutine() -> None: ...


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (DjangoModel, r"Django model instance cannot be sent.*pass its id \(value\.pk\)"),
    (Mapped, r"SQLAlchemy object cannot be sent.*pass its id"),
    (HttpRequest, "a request cannot be sent.*pass the values"),
    (lambda: lambda: None, "code cannot be sent.*pass a name"),
    (lambda: Point, "code cannot be sent"),
    (lambda: print, "code cannot be sent"),
    (threading.Lock, "a lock cannot be sent.*inside the task"),
    (threading.RLock, "a lock cannot be sent"),
    (threading.Event, "a lock cannot be sent"),
    (asyncio.Lock, "a lock cannot be sent"),
    (io.BytesIO, "an open file cannot be sent.*its path or its content"),
    (lambda: (n for n in range(3)), "only be consumed in this process; pass a list"),
    (object, "pass plain data"),
    (lambda: 1 + 2j, "pass plain data"),
]


@pytest.mark.parametrize(("make", "said"), REFUSED)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [{"deep": value}]], ids=["bare", "deep"])
def test_it_cannot_be_sent(make: Callable[[], Any], said: str, wrap: Callable[[Any], Any]) -> None:
    def fn(first: int, thing: Any) -> None: ...

    with pytest.raises(NotSerializable, match=rf"(?s)shop\.fn.*argument thing.*{said}.*Nothing was enqueued"):
        Payload(fn, "shop.fn").encode((1, wrap(make())), {})


def test_an_open_file_cannot_be_sent(tmp_path: Path) -> None:
    def fn(thing: Any) -> None: ...

    with (tmp_path / "file").open("w") as file, pytest.raises(NotSerializable, match="an open file cannot be sent"):
        Payload(fn, "fn").encode((file,), {})


def test_a_coroutine_cannot_be_sent() -> None:
    def fn(thing: Any) -> None: ...

    forgotten = coroutine()
    try:
        with pytest.raises(NotSerializable, match="only be consumed in this process"):
            Payload(fn, "fn").encode((forgotten,), {})
    finally:
        forgotten.close()


def test_a_circle_cannot_be_sent() -> None:
    circle: list[Any] = []
    circle.append(circle)

    def fn(thing: Any) -> None: ...

    with pytest.raises(NotSerializable, match="argument thing"):
        Payload(fn, "fn").encode((circle,), {})


def test_half_a_character_cannot_be_sent() -> None:
    def fn(thing: str) -> None: ...

    with pytest.raises(NotSerializable, match="argument thing"):
        Payload(fn, "fn").encode(("\ud800",), {})


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**400])
def test_a_huge_number_goes_or_is_refused(number: int) -> None:
    try:
        assert there_and_back(int, number) == number
    except NotSerializable as refusal:
        assert "value" in str(refusal)  # noqa: PT017


def test_the_size_is_limited() -> None:
    def fn(small: int, body: bytes) -> None: ...

    payload = Payload(fn, "shop.fn")
    size = len(bytes(payload.encode((1, b"x" * 300), {})))
    assert payload.encode((1, b"x" * 300), {}, size)
    with pytest.raises(PayloadTooLarge, match=rf"shop\.fn.*{size:,} bytes.*max_payload = {size - 1:,}.*largest is bod"):
        payload.encode((1, b"x" * 300), {}, size - 1)


# ---- in the worker ---------------------------------------------------------------------------------------------------


def test_stored_arguments_that_do_not_fit_are_undecodable() -> None:
    def fn(count: int) -> None: ...

    payload = Payload(fn, "shop.fn")
    for body in (b'{"count": "one"}', b"{}", b"[1]", b"\xff", b'{"count": 1'):
        with pytest.raises(Undecodable, match=r"do not fit shop\.fn"):
            payload.decode(msgspec.Raw(body))


def test_results_travel_by_the_return_hint() -> None:
    def fn() -> list[Order]: ...  # type: ignore[empty-body]

    payload = Payload(fn, "fn")
    value = [Order(uuid.uuid4(), Decimal("1.5"), NOW, Point(1))]
    assert payload.decode_result(payload.encode_result(value)) == value
    with pytest.raises(Undecodable, match="does not fit its return hint"):
        payload.decode_result(b'"text"')


@pytest.mark.parametrize(
    "value",
    [threading.Lock(), object(), float("nan"), [{"a": math.inf}], lambda: None],
    ids=["lock", "object", "nan", "inf", "lambda"],
)
def test_a_result_that_cannot_be_sent(value: Any) -> None:
    def fn() -> Any: ...

    with pytest.raises(ResultNotSerializable, match=r"shop\.fn returned"):
        Payload(fn, "shop.fn").encode_result(value)


def test_bytes_are_base64() -> None:
    def fn(body: bytes) -> None: ...

    encoded = base64.b64encode(b"\x00\xff").decode()
    assert bytes(Payload(fn, "fn").encode((b"\x00\xff",), {})) == f'{{"body":"{encoded}"}}'.encode()
