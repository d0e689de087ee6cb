"""The reference of the public names, from their signatures and docstrings."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, ForwardRef

import msgspec

import outwork

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "To declare tasks": ("task", "Retry", "Concurrency", "Rate", "provide", "provided"),
    "To enqueue": ("Task", "AsyncTask", "Call", "enqueue_many", "aenqueue_many", "chain", "group"),
    "To look at jobs": (
        *("get_result", "aget_result", "TaskResult", "GroupResult", "TaskResultStatus", "State", "TaskError"),
        *("MemberFailed", "Progress"),
    ),
    "Inside a task": ("TaskContext", "current_context", "TryAgain", "Snooze", "GiveUp"),
    "Applications": ("Outwork", "default_app", "configure"),
    "Errors": ("OutworkError", "TaskFailed", "ResultTimeout"),
}
"""Every public name in its place."""

MADE_BY_USERS: Final = {"Retry", "Concurrency", "Rate", "TryAgain", "Snooze", "GiveUp", "Outwork"}
"""Classes whose makers are shown; objects of the others are handed out."""

OURS: Final[Mapping[str, frozenset[str]]] = {
    "Task": frozenset({"call_of", "payload", "forget_payload", "check_reachable"}),
    "Call": frozenset({"job"}),
    "TaskResult": frozenset({"belongs_to"}),
    "TaskContext": frozenset({"has_news", "take_news", "hear"}),
    "Progress": frozenset({"moved", "with_line"}),
    "Rate": frozenset({"per_second"}),
    "Outwork": frozenset(
        {
            *("max_payload", "override", "read_surroundings", "start_worker", "hold_worker", "release_worker"),
            *("stop_worker", "become_child", "enqueue", "aenqueue", "admit", "result_of", "look_up"),
            *("look_up_all", "wait_for", "await_for", "when_ended", "cancel", "cancel_all", "progress_of"),
            *("in_thread", "standing_in", "task", "provide", "configure", "enqueue_many", "aenqueue_many"),
            *("get_result", "aget_result"),
        }
    ),
}
"""What is public in a class for the sake of the rooms around it; of Outwork also what the module's functions are."""

AS_ABOVE: Final = (
    "`task`, `provide`, `configure`, `enqueue_many`, `aenqueue_many`, `get_result` and `aget_result` are methods, too; "
    "the functions of these names are those of `default_app`.\n\n"
)


def api() -> str:
    """A section for each group, with an entry for each name."""
    named = [name for names in GROUPS.values() for name in names]
    assert sorted(named) == sorted(outwork.__all__), set(named) ^ set(outwork.__all__)
    parts: list[str] = []
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n\n")
        parts += [_entry(name, getattr(outwork, name)) for name in names]
    return "".join(parts)


def _entry(name: str, item: Any) -> str:
    if isinstance(item, outwork.Outwork):
        return f"### {name}\n\nThe Outwork that everything belongs to which names no other.\n\n"
    text = f"### {name}\n\n"
    if not inspect.isclass(item) or name in MADE_BY_USERS:
        text += f"```text\n{_async(item)}{name}{_signature(item, tall=True)}\n```\n\n"
    text += f"{inspect.getdoc(item)}\n\n"
    if name == "Outwork":
        text += AS_ABOVE
    return text + (_contents(name, item) if inspect.isclass(item) else "")


def _contents(name: str, kind: type) -> str:
    """What a class offers: values, fields, properties and methods, each with what is said of it."""
    if issubclass(kind, enum.Enum):
        return f"{', '.join(f'`{member.name}`' for member in kind)}\n\n"
    entries = [(f"{field}: {hint}", "") for field, hint in _fields(kind) if name not in MADE_BY_USERS]
    for base in _bases(name, kind):
        for member, value in vars(base).items():
            hidden = member.startswith("_") or member in OURS.get(name, ())
            if hidden or (member == "help_url" and name != "OutworkError"):
                continue
            if isinstance(value, property):
                entries.append((f"{member}{_returns(value.fget, ': ')}", inspect.getdoc(value) or ""))
            elif isinstance(value, classmethod) or inspect.isfunction(value):
                entries.append(
                    (f"{_async(value)}{member}{_signature(getattr(kind, member))}", inspect.getdoc(value) or "")
                )
    return "".join(f"- `{head}`\n{_indented(body)}\n" for head, body in entries)


def _bases(name: str, kind: type) -> Iterator[type]:
    """The class and those of ours below it which have no entry of their own."""
    for base in kind.__mro__:
        listed = getattr(outwork, base.__name__, None) is base and base is not kind
        if base.__module__.startswith("outwork") and not listed:
            yield base


def _fields(kind: type) -> Iterator[tuple[str, str]]:
    if issubclass(kind, msgspec.Struct) or hasattr(kind, "_fields"):
        for field, hint in inspect.get_annotations(kind).items():
            yield field, _hint(hint)


def _signature(item: Any, *, tall: bool = False) -> str:
    """As it is written, without `self`; a long one in lines where it may be `tall`."""
    if inspect.isclass(item) and issubclass(item, Exception) and "__init__" not in vars(item):
        return "(message)"
    hints = inspect.get_annotations(item) if inspect.isclass(item) and issubclass(item, msgspec.Struct) else {}
    words: list[str] = []
    star = False
    for one in inspect.signature(item).parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and not star:
            words.append("*")
        star = star or one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        words.append(_parameter(one, hints.get(one.name, one.annotation)))
        if one.kind is one.POSITIONAL_ONLY:
            words.append("/")
    after = "" if inspect.isclass(item) else _returns(item, " -> ")
    line = f"({', '.join(words)}){after}"
    return _tall(words, after) if tall and len(line) > 100 else line


def _async(item: object) -> str:
    return "async " if inspect.iscoroutinefunction(item) or inspect.isasyncgenfunction(item) else ""


def _tall(words: list[str], after: str) -> str:
    return "(\n" + "".join(f"    {word},\n" for word in words) + f"){after}"


def _parameter(one: inspect.Parameter, annotation: object) -> str:
    mark = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
    hint = "" if annotation is one.empty else f": {_hint(annotation)}"
    if one.default is one.empty:
        return f"{mark}{one.name}{hint}"
    return f"{mark}{one.name}{hint} = {_default(one.default)}"


def _default(value: object) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, tuple) and all(inspect.isclass(one) for one in value):
        return f"({''.join(f'{one.__name__}, ' for one in value).rstrip()})"
    return "..."


def _hint(hint: object) -> str:
    if isinstance(hint, ForwardRef):
        return hint.__forward_arg__
    return hint if isinstance(hint, str) else inspect.formatannotation(hint)


def _returns(function: Any, mark: str) -> str:
    hint = inspect.signature(function).return_annotation
    return "" if hint is inspect.Signature.empty else f"{mark}{_hint(hint)}"


def _indented(text: str) -> str:
    return re.sub(r"^(?=.)", "  ", f"\n{text}\n", flags=re.MULTILINE) if text else ""
