"""Which queues a worker serves."""

from __future__ import annotations

import logging

from outwork.app import Outwork
from outwork.errors import OutworkError
from outwork.job import DEFAULT_QUEUE, foreign
from outwork.worker.plan import Plan

logger = logging.getLogger("outwork.worker")


def served_queues(app: Outwork, plan: Plan, before: tuple[str, ...]) -> tuple[str, ...]:
    """Those given, or those that the tasks and settings name, that were served `before`, and that the broker knows."""
    if plan.queues:
        return tuple(plan.queues)
    named = [task.options.queue_name for task in app.tasks.values()]
    try:
        known = [queue for queue in app.broker.queues() if not foreign(queue)]
    except OutworkError as error:
        logger.debug("the broker's queues are not known: %s", error)
        known = []
    return tuple(dict.fromkeys([DEFAULT_QUEUE, *named, *app.settings.queues, *before, *known]))
