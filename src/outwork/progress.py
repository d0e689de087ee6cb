"""How far a job is, as its task says: the last word on it, and its latest lines of log. Pure: time is an argument."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

LINES_KEPT: Final = 100
LINE_LENGTH: Final = 500


class Line(Struct, frozen=True, array_like=True):
    """A line of log. `at` is Unix seconds by the worker's clock."""

    at: float
    text: str


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`done` of `total` (None: nobody knows of how much), a message, and the last hundred lines of log. `at` is when
    the task last spoke, in Unix seconds by the worker's clock; `attempt` which attempt it was."""

    done: float = 0.0
    total: float | None = None
    message: str = ""
    at: float = 0.0
    attempt: int = 1
    log: tuple[Line, ...] = ()

    @property
    def fraction(self) -> float | None:
        """From 0.0 to 1.0; None where the total is not known."""
        return None if not self.total else min(1.0, max(0.0, self.done / self.total))

    def moved(self, done: float, total: float | None, message: str | None, at: float) -> Progress:
        """With another word on how far it is; what is not given stays."""
        return replace(
            self,
            done=done,
            total=self.total if total is None else total,
            message=self.message if message is None else message[:LINE_LENGTH],
            at=at,
        )

    def with_line(self, text: str, at: float) -> Progress:
        """With one more line of log."""
        return replace(self, log=(*self.log[1 - LINES_KEPT :], Line(at, text[:LINE_LENGTH])), at=at)


encode_progress: Final = msgspec.json.Encoder().encode
decode_progress: Final = msgspec.json.Decoder(Progress).decode
