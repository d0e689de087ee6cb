"""What a worker writes on stderr: text for people, or JSON lines; every line of a job names it. Never a payload."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from outwork.attempt import Attempt
from outwork.context import running
from outwork.durations import duration_text
from outwork.errors import TryAgain
from outwork.job import Again, Cancelled, Dead, Done, Failure, Hold, Release
from outwork.worker.slots import Ended

logger = logging.getLogger("outwork.worker")

LINES_A_SECOND: Final = 50
"""How many ends of jobs are logged one by one; the others of that second are counted in one line."""

_TRY_AGAIN: Final = f"{TryAgain.__module__}.{TryAgain.__qualname__}"
JOB_FIELDS: Final = ("job_id", "task", "attempt", "queue")


def set_up(log_format: str, *, verbose: bool) -> None:
    """Log to stderr, unless the application has set up logging itself; job fields are put on every record."""
    logging.setLogRecordFactory(_record)
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter())
        root.addHandler(handler)
        root.setLevel(logging.INFO)
    logging.getLogger("outwork").setLevel(logging.DEBUG if verbose else logging.INFO)


def _record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    context = running.get()
    if context is not None:
        record.job_id = context.job_id
        record.task = context.task_name
        record.attempt = context.attempt
        record.queue = context.queue_name
    return record


class TextFormatter(logging.Formatter):
    """`12:00:03 text`, with the level when it is not INFO, and the job when one runs."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.levelno != logging.INFO:
            record.message = f"{record.levelname} {record.message}"
        if record.name != logger.name:
            record.message = f"[{record.name}] {record.message}"
            if hasattr(record, "job_id"):
                record.message += "  (" + " ".join(f"{key}={getattr(record, key)}" for key in JOB_FIELDS) + ")"
        return super().formatMessage(record)


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields of the job, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: getattr(record, key) for key in JOB_FIELDS if hasattr(record, key)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Journal:
    """The log of how jobs ended. Called by the puller; under load it counts instead of writing."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._unwritten = 0

    def ended(self, some: Sequence[Ended]) -> None:
        """Log the ends of attempts."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
            self.flush()
        left = max(0, LINES_A_SECOND - self._lines)
        self._lines += len(some)
        self._unwritten += max(0, len(some) - left)
        for ended in some[:left]:
            self._write(ended)

    @property
    def patience(self) -> float | None:
        """Seconds after which `breathe` has something to say; None for never."""
        return 1.0 if self._unwritten else None

    def breathe(self) -> None:
        """Say how many ends were not written one by one, once their second is over; called at each turn."""
        if self._unwritten and int(time.monotonic()) != self._second:
            self.flush()

    def _write(self, ended: Ended) -> None:
        level, text = _line(ended)
        fields: dict[str, object] = {"job_id": ended.claimed.id, "attempt": ended.claimed.attempt}
        if ended.attempt is not None:
            fields |= {"task": ended.attempt.job.task, "queue": ended.attempt.job.queue}
        logger.log(level, "%s", text, extra=fields)

    def flush(self) -> None:
        """Say how many ends were not written one by one."""
        if self._unwritten:
            count, self._unwritten = self._unwritten, 0
            logger.info("… and %s more jobs", f"{count:,}")


def _line(ended: Ended) -> tuple[int, str]:
    claimed, outcome, attempt, elapsed = ended
    number = claimed.attempt
    name = f"{attempt.job.task} {claimed.id}" if attempt else f"job {claimed.id}"
    took = f"{elapsed * 1000:.1f} ms" if elapsed < 1 else duration_text(elapsed)
    match outcome:
        case Done():
            again = f", attempt {number}" if number > 1 else ""
            return logging.INFO, f"✓ {name} {took} (waited {duration_text(_waited(attempt, elapsed))}{again})"
        case Again(delay, failures, True):
            last = failures[-1]
            traceback = "" if _says_it_all(last) else last.traceback
            text = f"✗ {name} {took} attempt {number} failed: {_reason(last, traceback)}"
            return logging.WARNING, f"{text}; again in {duration_text(delay)}\n{traceback}".rstrip()
        case Again(delay):
            return logging.INFO, f"~ {name} {took} snoozed for {duration_text(delay)}"
        case Dead(failures):
            traceback = failures[-1].traceback
            tries = f"{number} attempt{'s' * (number > 1)}"
            text = f"✗ {name} {took} FAILED after {tries}: {_reason(failures[-1], traceback)}"
            return logging.ERROR, f"{text}\n{traceback}".rstrip()
        case Cancelled():
            return logging.INFO, f"- {name} {took} cancelled"
        case Release():
            return logging.DEBUG, f"< {name} given back"
        case Hold():
            return logging.DEBUG, f"< {name} held: its task is paused"


def _reason(failure: Failure, traceback: str) -> str:
    """The error; of a text of several lines the first one, where the traceback below has the others."""
    message = failure.message.partition("\n")[0] if traceback else failure.message
    return f"{failure.exception}: {message}"


def _says_it_all(failure: Failure) -> bool:
    """Whether a task has asked for another attempt, and not because of another error: then its text is enough."""
    return failure.exception == _TRY_AGAIN and failure.traceback.count("Traceback (most recent call last)") < 2


def _waited(attempt: Attempt | None, elapsed: float) -> float:
    """Seconds between the moment a job could start and its start; by two hosts' clocks, so for people only."""
    if attempt is None:
        return 0.0
    job = attempt.job
    return max(0.0, time.time() - elapsed - (job.due or job.created + (job.delay or 0.0)))
