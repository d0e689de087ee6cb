"""Every setting by its dotted key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from outwork.configuration import readers
from outwork.durations import bytes_of

READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "broker_url": readers.text,
    "store_url": readers.text,
    "broker": readers.class_path,
    "modules": readers.texts,
    "queues": readers.queues,
    "max_payload": readers.at_least_one,
    "lease": readers.lease,
    "worker.concurrency": readers.at_least_one,
    "worker.threads": readers.at_least_one,
    "worker.children": readers.at_least_one,
    "worker.child_memory": bytes_of,
    "worker.processes": readers.at_least_one,
    "worker.grace": readers.duration,
    "worker.queues": readers.shares,
    "worker.weights": readers.weights,
    "worker.periodic": readers.flag,
    "worker.log_format": readers.log_format,
    "retention.results": readers.duration,
    "retention.failed": readers.duration,
}
"""What reads the value of each: raises ValueError that says what to write."""

TABLES: Final = frozenset(key.partition(".")[0] for key in READERS if "." in key)
LISTS: Final = frozenset({"modules", "queues", "worker.queues"})
URLS: Final = ("broker_url", "store_url")
EMPTY_IS_A_VALUE: Final = LISTS | {*URLS, "broker"}
"""Set to nothing in the environment, these are nothing; any other variable that is empty counts as not set."""
WHOLE: Final = frozenset(key for key, reader in READERS.items() if reader is readers.at_least_one)
