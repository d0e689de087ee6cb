"""Asking a store about many jobs, in portions that it answers at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from outwork.brokers.base import Store
from outwork.hooks import Hooks
from outwork.job import Record, State

PORTION: Final = 500


def look_up(store: Store, ids: Sequence[str], *, ends: bool) -> list[Record | None]:
    """The records of these jobs, None for those that are not known; with `ends` as `Store.ends` gives them."""
    ask = store.ends if ends else store.get
    return [record for some in _portions(ids) for record in ask(some)]


def cancel(store: Store, ids: Sequence[str], hooks: Hooks) -> list[State | None]:
    """Cancel jobs, and tell the listeners; the state of each afterwards, None for those that are not known."""
    states: list[State | None] = []
    for some in _portions(ids):
        before = store.get(some) if hooks.listens else [None] * len(some)
        after = store.cancel(some)
        for record, state in zip(before, after, strict=True):
            if record is not None and state is State.CANCELLED and record.state is not state:
                hooks.tell_cancelled(record)
        states += after
    return states


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + PORTION] for start in range(0, len(ids), PORTION))
