"""The service files of docs/deployment.md, also with Django's worker in them, are what their readers take them for."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from docs.runner import blocks

PAGE: Final = Path(__file__).parents[2] / "docs" / "deployment.md"
NAME: Final = re.compile(r"^[#;] ([\w./-]+)$", re.MULTILINE)
TEXTS: Final = {found[1]: block.text for block in blocks(PAGE) if (found := NAME.search(block.text))}
"""Every file that the page shows, by its path."""

SYSTEMD: Final = "/etc/systemd/system/shop-worker.service"
SUPERVISORD: Final = "/etc/supervisor/conf.d/shop-worker.conf"
DJANGO: Final = [
    (
        "/srv/shop/.venv/bin/outwork worker --config /etc/shop/outwork.toml",
        "/srv/shop/.venv/bin/python manage.py outwork_worker",
    ),
    ('command="/srv/shop/.venv/bin/outwork"', 'command="/srv/shop/.venv/bin/python"'),
    ('command_args="worker --config /etc/shop/outwork.toml"', 'command_args="manage.py outwork_worker"'),
    ('["outwork", "worker", "shop.tasks"]', '["python", "manage.py", "outwork_worker"]'),
]
"""What docs/django.md puts in the place of the command lines of this page."""


def for_django(text: str) -> str:
    for ours, djangos in DJANGO:
        text = text.replace(ours, djangos)
    return text


def test_the_lines_for_django_have_a_place_in_each_file() -> None:
    page = PAGE.with_name("django.md").read_text()
    for _, line in DJANGO:
        assert line in page
    for name in TEXTS.keys() - {"wsgi.py", "/etc/sv/shop-worker/log/run"}:
        assert "outwork_worker" in for_django(TEXTS[name]), name


def test_the_page_shows_them_all() -> None:
    assert set(TEXTS) == {
        "wsgi.py",
        SYSTEMD,
        "/etc/init.d/shop-worker",
        "/etc/sv/shop-worker/run",
        "/etc/sv/shop-worker/log/run",
        SUPERVISORD,
        "Dockerfile",
        "compose.yaml",
        "worker.yaml",
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("change", [str, for_django])
def test_the_systemd_unit(tmp_path: Path, change: Callable[[str], str]) -> None:
    unit = tmp_path / "shop-worker.service"
    text = re.sub(r"/srv/shop/.venv/bin/\w+", sys.executable, change(TEXTS[SYSTEMD]))
    unit.write_text(text.replace("User=shop", "User=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    about_it = [line for line in done.stderr.splitlines() if unit.name in line]
    assert about_it == []


@pytest.mark.parametrize("change", [str, for_django])
@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if text.startswith("#!")])
def test_scripts_are_scripts(name: str, change: Callable[[str], str]) -> None:
    text = change(TEXTS[name])
    done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_supervisord_program() -> None:
    parser = configparser.ConfigParser(strict=True)
    parser.read_string(for_django(TEXTS[SUPERVISORD]))
    assert parser.sections() == ["program:shop-worker"]
    assert parser["program:shop-worker"]["command"] == "/srv/shop/.venv/bin/python manage.py outwork_worker"


def test_everybody_waits_longer_than_the_grace_period() -> None:
    waits = re.findall(
        r"(?:TimeoutStopSec=|stopwaitsecs=|SIGTERM/|stop_grace_period: |GracePeriodSeconds: |sv -w )(\d+)",
        PAGE.read_text(),
    )
    assert waits == ["35"] * 6
