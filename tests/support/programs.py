"""Where the programs of the servers are that tests start for themselves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
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
