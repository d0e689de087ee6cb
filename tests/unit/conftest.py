"""A project in an empty directory, with a default application of its own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outwork.app import Outwork

Write = Callable[[str, str], Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory and environment; afterwards its modules are forgotten."""
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith("OUTWORK_"):
            monkeypatch.delenv(variable)
    monkeypatch.setattr(sys, "path", list(sys.path))
    app = Outwork()
    app.read_surroundings()
    monkeypatch.setattr("outwork.app.default_app", app)
    monkeypatch.setattr("outwork.default_app", app)
    monkeypatch.setattr("outwork.task", app.task)
    before = set(sys.modules)
    yield tmp_path
    app.close()
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
        if any(str(place).startswith(str(tmp_path)) for place in places):
            del sys.modules[name]


@pytest.fixture
def write(project: Path) -> Write:
    """Write a file of the project, its folders included."""

    def write_one(name: str, text: str) -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()
        return path

    return write_one
