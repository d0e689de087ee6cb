"""Small disks of our own, to be full."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A file system of so many megabytes in memory; any user may enter it."""

    def __init__(self, megabytes: int) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a small disk")
        self.path = Path(tempfile.mkdtemp(prefix="outwork-disk-"))
        self._ballast = self.path / "ballast"
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "none", str(self.path)]
        mounted = subprocess.run(command, capture_output=True, text=True)
        if mounted.returncode:
            self.path.rmdir()
            pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")

    def fill(self, most: int = 1 << 40) -> None:
        """Take all the room there is, or so many bytes of it."""
        block = bytes(4096)
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while file.tell() < most:
                    file.write(block)
            except OSError:
                return

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)
        self.path.rmdir()


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """A disk for one test."""
    disk = SmallDisk(megabytes)
    try:
        yield disk
    finally:
        disk.close()
