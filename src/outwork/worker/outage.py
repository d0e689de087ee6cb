"""A broker that is away: when to try again, and what is said of it."""

from __future__ import annotations

import logging
import random
from time import monotonic
from typing import Final

from outwork.errors import OutworkError

logger = logging.getLogger("outwork.worker")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0
LINE_EVERY: Final = 60.0


class Outage:
    """Backs off with full jitter, for ever, and writes one line a minute."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failures = 0
        self._retry_at = 0.0
        self._logged_at = 0.0

    @property
    def lasts(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    def pause(self) -> float:
        """Seconds until the next try; 0 when it is time."""
        return max(0.0, self._retry_at - monotonic())

    def failed(self, error: Exception, kept: int) -> None:
        """A call failed; `kept` outcomes wait for the next one."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._retry_at = monotonic() + longest * random.random()
        self._failures += 1
        if not self._logged_at or monotonic() - self._logged_at >= LINE_EVERY:
            self._logged_at = monotonic()
            unknown = None if isinstance(error, OutworkError) else error
            then = f"{kept} outcomes are kept; trying again" if kept else "Trying again"
            logger.error("%s. %s", _about(self._url, error), then, exc_info=unknown)

    def over(self) -> None:
        """A call succeeded."""
        if self._failures:
            logger.info("connected again to %s", self._url)
            self._failures, self._logged_at = 0, 0.0


def _about(url: str, error: Exception) -> str:
    """The error with the broker's URL, which most of them name already."""
    text = str(error)
    return text if url in text else f"{url}: {text}"
