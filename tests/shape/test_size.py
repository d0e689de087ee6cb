"""A file of 500 lines, or a function of 60, has two jobs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

SOURCE: Final = Path(__file__).parents[2] / "src"
FILES: Final = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))
LONGEST_FILE: Final = 500
LONGEST_FUNCTION: Final = 60
DECLARATIONS: Final = {"Outwork.task"}
"""Functions that are long because they spell options out, so that type checkers see them."""


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_are_short(name: str) -> None:
    text = (SOURCE / name).read_text()
    assert len(text.splitlines()) < LONGEST_FILE, f"{name} is too long: split it by responsibility"
    tree = ast.parse(text)
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            owner = f"{parent.name}." if isinstance(parent, ast.ClassDef) else ""
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if owner + node.name not in DECLARATIONS:
                assert lines < LONGEST_FUNCTION, f"{name}: {owner}{node.name} has {lines} lines"
