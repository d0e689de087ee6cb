"""The progress bar of a long drain, on a terminal: how many of the jobs that waited at its start have ended."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from outwork.brokers.base import Store
from outwork.errors import OutworkError
from outwork.job import State
from outwork.worker.worker import Worker

logger = logging.getLogger("outwork.worker")

EVERY = 0.2
FEW = 100
"""So many jobs say more by a line each than by a bar."""


@contextmanager
def progress_bar(worker: Worker) -> Iterator[None]:
    """Show a bar on stderr while the block runs, if more than FEW jobs wait. The ends of jobs are not logged meanwhile,
    their failures are."""
    total = _waiting(worker)
    if total <= FEW:
        yield
        return
    level = logger.level
    logger.setLevel(logging.WARNING)
    done = threading.Event()
    with click.progressbar(length=total, label="draining", file=sys.stderr, show_pos=True) as bar:

        def draw() -> None:
            shown = 0
            while not done.wait(EVERY):
                ended = min(worker.ended, total)
                bar.update(ended - shown)
                shown = ended

        thread = threading.Thread(target=draw, name="outwork-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            bar.update(min(worker.ended, total) - bar.pos)
            logger.setLevel(level)


def _waiting(worker: Worker) -> int:
    """How many jobs of the worker's queues are ready or run."""
    if not isinstance(worker.broker, Store):
        return 0
    try:
        counts = worker.broker.counts()
    except OutworkError as error:
        logger.debug("the jobs could not be counted: %s", error)
        return 0
    queues = worker.plan.queues
    return sum(
        count.jobs
        for count in counts
        if count.state in (State.READY, State.RUNNING) and (not queues or count.queue in queues)
    )
