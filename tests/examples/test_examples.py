"""Every README of the examples shows what happens: its sessions are run in a copy of its folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from docs.runner import Session, blocks

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
MADE: Final = shutil.ignore_patterns("__pycache__", ".*", "*.db*")


@pytest.mark.parametrize("name", ["script", "producer_worker", "testing"])
def test_an_example_does_what_its_readme_shows(name: str, tmp_path: Path) -> None:
    readme = EXAMPLES / name / "README.md"
    session = Session(shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=MADE))
    try:
        for block in blocks(readme):
            try:
                session.run(block)
            except AssertionError as error:
                pytest.fail(f"{readme.parent.name}/README.md:{block.line}: {error}", pytrace=False)
    finally:
        session.close()
