"""Every code block of README and docs is run, and every table is what the code says."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from docs.runner import Session, blocks, unrunnable
from outwork import errors
from outwork.cli.runworker import runworker_command
from outwork.contrib.channels.management.commands.outwork_runworker import Command as DjangoRunworker
from support.rabbitmq_server import RabbitServer
from tables import DOCS, written
from url_options import asked_for

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """The server of the page on RabbitMQ."""
    server = RabbitServer(tmp_path_factory.mktemp("rabbit"))
    yield server
    server.close()


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    addresses: dict[str, str] = {}
    if page.name == "rabbitmq.md":
        server: RabbitServer = request.getfixturevalue("rabbit")
        addresses["localhost:5672"] = f"127.0.0.1:{server.port}"
    session = Session(folder, addresses)
    try:
        for block in blocks(page):
            try:
                session.run(block)
            except AssertionError as error:
                pytest.fail(f"{title(page)}:{block.line}: {error}", pytrace=False)
    finally:
        session.close()


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_no_session_is_left_out(page: Path) -> None:
    assert unrunnable(page) == []


@pytest.mark.parametrize("text", ["```text\n$ outwork status\n```\n", "So:\n\n    $ outwork status\n"])
def test_a_session_that_nobody_runs_is_seen(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```console\n$ outwork tasks\n```\n{text}")
    assert len(unrunnable(page)) == 1


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_make_has_these_targets(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^\$ |^)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets


def test_every_option_of_runworker_is_told() -> None:
    [synopsis] = [block.text for block in blocks(DOCS / "channels.md") if "outwork runworker pkg" in block.text]
    django, plain = synopsis.split("\noutwork ")
    assert shown(plain) == {option for one in runworker_command.params for option in one.opts if option[:2] == "--"}
    parser = argparse.ArgumentParser()
    DjangoRunworker().add_arguments(parser)
    assert shown(django) == {option for action in parser._actions for option in action.option_strings[-1:]} - {"--help"}


def shown(synopsis: str) -> set[str]:
    return set(re.findall(r"--[a-z-]+", synopsis))


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        there = (page.parent / path) if path else page
        assert there.exists(), f"{title(page)} links to {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{title(page)} links to {target}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\((\S+)\)=$", page.read_text(), re.MULTILINE))


def test_every_error_has_its_place_in_troubleshooting() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.OutworkError)]
    named = {kind.code: kind.__name__ for kind in kinds if kind is not errors.Control}
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    headings = dict(re.findall(r"^\(ow\d+\)=\n### (OW\d+) (\w+)$", text, re.MULTILINE))
    assert headings == named
    assert re.findall(r"^\((ow\d+)\)=$", text, re.MULTILINE) == sorted(code.lower() for code in named)


def test_tables_are_what_the_code_says() -> None:
    for page in DOCS.rglob("*.md"):
        assert page.read_text() == written(page.read_text()), f"{title(page)}: run  make tables"


def test_every_option_of_rabbitmq_is_on_its_page() -> None:
    page = (DOCS / "rabbitmq.md").read_text()
    assert [name for name in asked_for("amqps://localhost") if f"`{name}`" not in page] == []


def test_the_demo_ends_well() -> None:
    command = [sys.executable, str(ROOT / "examples" / "demo" / "run.py"), "120"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "receipts: 120 orders" in done.stdout
    assert "0 lost" in done.stdout
