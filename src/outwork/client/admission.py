"""Whether a broker can keep what a task asks for: said when it is enqueued, before anything is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from outwork.brokers.base import Broker, Capabilities
from outwork.declaring.options import Options
from outwork.errors import InvalidOption, UnknownQueue, Unsupported
from outwork.task import Call, PartialCall, Task


def check_call(call: object, instead: str) -> None:
    """Refuse what is no call; `instead` is what to write. Raises InvalidOption."""
    if not isinstance(call, Call | PartialCall):
        raise InvalidOption(f"{call!r} is no call: write {instead}")


def check(task: Task[..., Any], broker: Broker, declared: Sequence[str], *, in_child: bool) -> None:
    """Refuse what this broker cannot keep, or this process (`in_child`: it runs a task for another one) cannot enqueue;
    and a queue that is not `declared`, if any are. Raises NotImportable, Unsupported, UnknownQueue."""
    options, can = task.options, broker.capabilities
    by_child = options.executor == "process" or (options.executor is None and broker.embedding.isolated)
    if can.shared or by_child:
        task.check_reachable(by_child=by_child and broker.runs_in == "embedded")
    if in_child and not can.shared:
        raise Unsupported(
            f"{task.name}: a task that runs in a child process cannot enqueue on {broker.url}, whose jobs are in "
            "its parent's memory. Use a broker that processes share, for example sqlite:///tasks.db?embedded=true"
        )
    if (options.delay or options.due) and not can.defer:
        raise Unsupported(
            f"{task.name}: run_after cannot be kept by {broker.url}, which has no place for jobs to wait. Set "
            "OUTWORK_BROKER_URL, for example to sqlite:///tasks.db. Nothing was enqueued"
        )
    if options.priority and can.priority_levels == 1:
        raise Unsupported(f"{task.name}: {broker.url} has no priorities. Nothing was enqueued")
    for option, capability in needs_of(options):
        if not getattr(can, capability):
            raise Unsupported(f"{task.name}: {option} cannot be kept by {broker.url}. {_way_out(can, capability)}")
    if declared and options.queue_name not in declared:
        raise UnknownQueue(
            f"{task.name}: the queue {options.queue_name!r} is not declared. Declared are: "
            f"{', '.join(declared)}. Nothing was enqueued"
        )


def needs_of(options: Options) -> Iterator[tuple[str, str]]:
    """The options of this task that bind its jobs to others, and the capability that each needs."""
    if options.unique is not None:
        yield ("debounce" if options.unique.patience is not None else "unique"), "unique"
    if options.limits:
        yield "limit", "gates"
    if options.fair_key is not None:
        yield "fair_key", "fair"
    if options.after:
        yield "after", "composition"
    if options.followers:
        yield "on_success or on_failure", "composition"


def _way_out(can: Capabilities, capability: str) -> str:
    if capability == "fair":
        return (
            "Its jobs stand in a line that it keeps by itself. Use sqlite://, postgresql://, mysql:// or redis:// "
            "alone. Nothing was enqueued"
        )
    if not can.results:
        return "Set OUTWORK_STORE_URL to a database for it, or use another broker. Nothing was enqueued"
    return "Use sqlite://, postgresql://, mysql:// or redis://. Nothing was enqueued"
