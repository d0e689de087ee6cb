"""Chores: what an application wants done every few seconds wherever a worker of it runs (`Outwork.chores`)."""

from __future__ import annotations

import logging
import random
from time import monotonic
from types import TracebackType
from typing import Final, Self

from outwork.app import Outwork
from outwork.errors import OutworkError
from outwork.worker.rounds import Rounds

logger = logging.getLogger("outwork.worker")

EVERY: Final = 10.0
AT_ONCE: Final = 0.1
COMPLAIN_EVERY: Final = 60.0


class Chores:
    """Does the chores of an application for the length of a `with` block, on a thread of their own. `drain`: once, and
    before the block, because what they bring is to be worked off in it."""

    def __init__(self, app: Outwork, *, drain: bool = False) -> None:
        self._app = app
        self._drain = drain
        self._rounds = Rounds("outwork-chores", self._round)
        self._complained_at = -COMPLAIN_EVERY

    def __enter__(self) -> Self:
        if self._drain:
            while self.once():
                pass
        elif self._app.chores:
            self._rounds.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rounds.stop()

    def _round(self) -> float:
        return AT_ONCE if self.once() else EVERY * random.uniform(0.8, 1.2)

    def once(self) -> bool:
        """Do them all; whether one of them has more to do. What goes wrong is logged, and tried again later."""
        more = False
        for chore in self._app.chores:
            try:
                more |= chore()
            except Exception as error:
                now = monotonic()
                if now - self._complained_at >= COMPLAIN_EVERY:
                    self._complained_at = now
                    logger.error("a chore failed: %s", error, exc_info=not isinstance(error, OutworkError))
        return more
