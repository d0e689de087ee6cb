"""Watching one file for writes with Linux' inotify, through libc: no poll, no dependency, awake 60 µs after a write."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

IN_MODIFY: Final = 0x2
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
EVENT: Final = struct.Struct("iIII")


class FileWatch:
    """Tells when `path` was written to, created or deleted. `fd` is for poll().

    The file itself is watched for writes; its directory only for names that come and go, so that a busy neighbour
    in the same directory wakes nobody. Raises OSError where there is no inotify, or no instance is left.
    """

    def __init__(self, path: str) -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            init, self._add = libc.inotify_init1, libc.inotify_add_watch
        except (OSError, AttributeError, TypeError) as error:
            raise OSError("this system has no inotify") from error
        self._path = os.fsencode(path)
        self.fd: int = init(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1 failed")
        self._file = -1
        directory = os.path.dirname(self._path) or b"."
        if self._add(self.fd, directory, IN_CREATE | IN_MOVED_TO | IN_DELETE) < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, "inotify_add_watch failed")
        self._follow()

    def _follow(self) -> None:
        """Watch the file that has the name now (no harm if it is the same, or there is none yet)."""
        self._file = self._add(self.fd, self._path, IN_MODIFY)

    def drain(self) -> bool:
        """Read all events that have come; whether one of them is about the file."""
        name = os.path.basename(self._path)
        ours = False
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return ours
            at = 0
            while at < len(data):
                watch, mask, _, length = EVENT.unpack_from(data, at)
                at += EVENT.size + length
                entry = data[at - length : at].rstrip(b"\0")
                if entry == name and not mask & IN_IGNORED:
                    self._follow()
                    ours = True
                elif mask & IN_Q_OVERFLOW or (watch == self._file and mask & IN_MODIFY):
                    ours = True

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
