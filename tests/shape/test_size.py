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
DECLARATIONS: Final = {"task"}
"""Functions that are long because they spell options out, so that type checkers see them."""


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_are_short(name: str) -> None:
    text = (SOURCE / name).read_text()
    assert len(text.splitlines()) < LONGEST_FILE, f"{name} is too long: split it by responsibility"
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in DECLARATIONS:
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines < LONGEST_FUNCTION, f"{name}: {node.name} has {lines} lines"
