"""Every README of the examples shows what happens: its sessions are run in a copy of its folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from docs.runner import Session, blocks, unrunnable
from support.ports import free_port

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
READMES: Final = sorted(EXAMPLES.glob("*/README.md"))
MADE: Final = shutil.ignore_patterns("__pycache__", ".*", "*.db*", "*.sqlite*", "outbox")


def name(readme: Path) -> str:
    return readme.parent.name


def prepared(folder: Path) -> Session:
    """A session whose servers have ports of their own in the place of the usual ones, also in the configuration."""
    mail, text, wiki, site = free_port(), free_port(), free_port(), free_port()
    addresses = {
        "127.0.0.1:5000": f"127.0.0.1:{site}",
        "127.0.0.1:8000": f"127.0.0.1:{site}",
        "python serve.py": f"python serve.py {site}",
        "127.0.0.1:1025": f"127.0.0.1:{mail}",
        "127.0.0.1:2775": f"127.0.0.1:{text}",
        "scim2-server": f"scim2-server --port {wiki}",
    }
    if (config := folder / "identity.toml").exists():
        lines = config.read_text()
        for usual, port in (("1025", mail), ("2775", text), ("8080", wiki)):
            assert lines.count(usual) == 1
            lines = lines.replace(usual, str(port))
        config.write_text(lines)
    shown = (folder / "README.md").read_text()
    addresses = {usual: ours for usual, ours in addresses.items() if usual in shown}
    return Session(folder, addresses, {"FLASK_RUN_PORT": str(site), "UVICORN_PORT": str(site), "PYTHONWARNINGS": ""})


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_an_example_does_what_its_readme_shows(readme: Path, tmp_path: Path) -> None:
    session = prepared(shutil.copytree(readme.parent, tmp_path / name(readme), ignore=MADE))
    try:
        for block in blocks(readme):
            try:
                session.run(block)
            except AssertionError as error:
                pytest.fail(f"{name(readme)}/README.md:{block.line}: {error}", pytrace=False)
    finally:
        session.close()


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_no_session_is_left_out(readme: Path) -> None:
    assert unrunnable(readme) == []


def test_every_example_has_a_readme() -> None:
    without = [path.name for path in EXAMPLES.iterdir() if path.is_dir() and not (path / "README.md").exists()]
    assert without == ["demo"], "which `make demo` runs, and the README of the project shows"
