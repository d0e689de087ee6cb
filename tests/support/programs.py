"""Programs that tests start for themselves: where they are, and what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

VARIABLE: Final = "OUTWORK_TEST_SERVERS"
"""The environment variable that names a folder with the programs of other releases, which come first."""
PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def chosen(name: str) -> str | None:
    """The path of a program in the folder of other releases."""
    path = Path(os.environ.get(VARIABLE, "/nowhere")) / name
    return str(path) if path.exists() else None


def find(name: str, folders: Sequence[Path] = ()) -> str | None:
    """The path of a program: in the folder of other releases, in one of these `folders`, or in the PATH."""
    beside = next((str(folder / name) for folder in folders if (folder / name).exists()), None)
    return chosen(name) or beside or shutil.which(name, path=PATH)


def ended(words: Sequence[str], folder: Path, environ: Mapping[str, str]) -> tuple[int, str]:
    """Run a program to its end, a minute at most: its exit code, and what it said, both ways."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout
