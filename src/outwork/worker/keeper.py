"""The keeper: renews the leases of the jobs in hand, and does the housekeeping that any worker can do.

Two threads, each with its own timer, so that neither a long rescue nor a busy puller delays a renewal.

A keeper rescues other workers' jobs only after a whole lease of uninterrupted connection, judged by its own monotonic
clock: after an outage of the server, or when this host slept, the healthy workers get the time to renew first.
Excepted are workers known to be dead on this host: each holds a lock on a file named in its presence, and who gets that
lock may rescue at once (never judged by pid: those are reused, and containers have their own).
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from outwork.brokers.base import Broker, Claim, Extended, Presence, Tended

logger = logging.getLogger("outwork.worker")

TEND_EVERY: Final = 10.0
ANNOUNCE: Final = 2.0
"""Seconds that a worker waits at most until it is known: one that dies with its first jobs is then noticed at once."""
LOOK_EVERY: Final = 2.0
"""Seconds between looks at the lock files of the workers on this host."""


class Keeper:
    """Keeps what `claims` says is in hand, and tends the broker with what `presence` says of this worker."""

    def __init__(
        self,
        broker: Broker,
        claims: Callable[[], Sequence[Claim]],
        presence: Callable[[], Presence],
        extended: Callable[[float, Sequence[Claim], Extended], None],
        tended: Callable[[Tended], None],
    ) -> None:
        self._broker = broker
        self._claims = claims
        self._presence = presence
        self._extended = extended
        self._tended = tended
        self._lease = broker.terms.lease
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._renew, name="outwork-leases", daemon=True),
            threading.Thread(target=self._tend, name="outwork-keeper", daemon=True),
        ]
        self._announced = threading.Event()
        self._idle_so_far = True
        """Whether all that was said of this worker is that it has done nothing yet."""
        self._steady_since = monotonic()
        self._neighbours: dict[str, Path] = {}
        self._dead: set[str] = set()

    def start(self) -> None:
        """Start both threads; returns when the broker knows of this worker, if that can be had soon."""
        for thread in self._threads:
            thread.start()
        self._announced.wait(ANNOUNCE)

    def close(self) -> None:
        """End both threads."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(5.0)

    # ---- leases -----------------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        pause = self._lease / 3
        while not self._stopping.wait(pause):
            pause = self._lease / 3
            claims = self._claims()
            if not claims:
                continue
            began = monotonic()
            try:
                self._extended(began, claims, self._broker.extend(claims))
            except Exception as error:  # noqa: BLE001 - a lease must be renewed whatever went wrong before
                logger.debug("renewing %d leases failed: %s", len(claims), error)
                pause = min(1.0, self._lease / 10)

    # ---- housekeeping -----------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        due = monotonic()
        while True:
            now = monotonic()
            if now >= due:
                if now > due + self._lease / 3:
                    self._steady_since = now  # this thread, or the host, was asleep
                due = now + (0.1 if self._tend_once() else min(TEND_EVERY, self._lease / 3))
            self._dead |= {worker for worker, lock in self._neighbours.items() if is_dead(lock)}
            if self._dead:
                self._tend_once()
            if self._stopping.wait(min(LOOK_EVERY, self._lease / 3, max(0.0, due - monotonic()))):
                return
            if self._idle_so_far and self._has_worked():
                due = monotonic()

    def _tend_once(self) -> bool:
        """Tend; True if there is more to do at once."""
        rescue = monotonic() - self._steady_since >= self._lease
        dead = frozenset(self._dead)
        try:
            worked = self._has_worked()
            tended = self._broker.tend(self._presence(), rescue=rescue, dead=dead)
            self._announced.set()
            self._idle_so_far = self._idle_so_far and not worked
            if not tended.more:
                self._dead -= dead
            self._meet_neighbours()
            self._tended(tended)
        except Exception as error:  # noqa: BLE001 - the next round tries again; the puller reports the outage
            logger.debug("tending failed: %s", error)
            self._announced.set()
            self._steady_since = monotonic()
            return False
        if tended.rescued:
            logger.warning(
                "rescued %d jobs of workers that died or lost their lease (%d of them buried)",
                tended.rescued,
                tended.buried,
            )
        return tended.more

    def _has_worked(self) -> bool:
        presence = self._presence()
        return presence.done + presence.failed > 0

    def _meet_neighbours(self) -> None:
        """Remember the lock files of the other workers on this host."""
        host = host_name()
        self._neighbours = {
            other.worker: Path(other.lock)
            for other in self._broker.workers()
            if other.host == host and other.lock and other.worker != self._presence().worker
        }


# ---- the lock that a worker holds while it lives ---------------------------------------------------------------------


class LifeLock:
    """A locked file: while this process lives, nobody else gets the lock. A forked child does not inherit it.

    `path` is "" where no such file can be had; a death is then noticed by the lease.
    """

    def __init__(self, worker: str) -> None:
        self.path = ""
        self._file = -1
        self._pid = os.getpid()
        try:
            path = _own_folder() / f"{worker}.lock"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            logger.warning("no lock file for this worker (%s): its death would be noticed after a lease only", error)
            self._close()
            return
        self.path = str(path)
        os.register_at_fork(after_in_child=self._close)

    def release(self) -> None:
        """Remove the file, then let the lock go."""
        if self._file >= 0 and self._pid == os.getpid():
            Path(self.path).unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _own_folder() -> Path:
    """A folder for this user's lock files. Raises OSError, also when somebody else made it first."""
    folder = Path(tempfile.gettempdir()) / f"outwork-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def is_dead(path: Path) -> bool:
    """Whether the process that held this lock is gone. A file that is not there, or not ours to open, says nothing."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)


def host_name() -> str:
    """This machine and its boot: a worker of another boot of the same machine is not this host's."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()}/{boot}"
