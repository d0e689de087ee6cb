"""What systemd is told (sd_notify): READY, STATUS, WATCHDOG, RELOADING, STOPPING. Nothing where nobody listens."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

logger = logging.getLogger("outwork.worker")

MICROSECONDS: Final = 1_000_000


class Notifier:
    """Talks to the socket that `NOTIFY_SOCKET` names."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watchdog = int(environ.get("WATCHDOG_USEC") or 0)
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_every = watchdog / MICROSECONDS / 3 if watchdog and mine and address else None
        """Seconds between two signs of life that systemd wants; None: it wants none."""

    def tell(self, **fields: str | int) -> None:
        """Send `FIELD=value` lines; field names are sd_notify's in lower case."""
        if not self._address:
            return
        text = "\n".join(f"{name.upper()}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as pipe:
                pipe.sendto(text.encode(), self._address)
        except OSError as error:
            logger.debug("systemd could not be told %r: %s", text, error)

    def reloading(self) -> None:
        """A restart with new code begins; `tell(ready=1)` ends it."""
        self.tell(reloading=1, monotonic_usec=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
