"""mypy and pyright report every planted mistake of typing/wrong.py, nothing else, and accept its correct twin."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = Path(__file__).parent / "typing"


def planted(name: str) -> set[int]:
    """The lines of a file that say that they are wrong."""
    lines = (FOLDER / name).read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# planted") or "# planted:" in line}


def run(tool: str, *words: str) -> str:
    if find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    command = [sys.executable, "-m", tool, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False).stdout


def by_mypy(name: str) -> set[int]:
    """The lines of a file at which mypy --strict reports an error."""
    said = run("mypy", "--strict", "--no-error-summary", f"{FOLDER}/{name}")
    found = re.findall(rf"{re.escape(name)}:(\d+): error", said)
    assert said.count(": error") == len(found), said
    return set(map(int, found))


def by_pyright(name: str) -> set[int]:
    """The lines of a file at which pyright reports an error."""
    report = json.loads(run("pyright", "--pythonpath", sys.executable, "--outputjson", f"{FOLDER}/{name}"))
    return {one["range"]["start"]["line"] + 1 for one in report["generalDiagnostics"] if one["severity"] == "error"}


def test_there_are_mistakes() -> None:
    assert [len(planted(name)) for name in ("wrong.py", "wrong_django.py")] == [10, 5]


@pytest.mark.parametrize("suffix", ["", "_django"])
def test_mypy_finds_them(suffix: str) -> None:
    assert by_mypy(f"wrong{suffix}.py") == planted(f"wrong{suffix}.py")
    assert by_mypy(f"right{suffix}.py") == set()


@pytest.mark.parametrize("suffix", ["", "_django"])
def test_pyright_finds_them(suffix: str) -> None:
    assert by_pyright(f"wrong{suffix}.py") == planted(f"wrong{suffix}.py")
    assert by_pyright(f"right{suffix}.py") == set()
