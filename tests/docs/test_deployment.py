"""The service files of docs/deployment.md are what their readers take them for."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from docs.runner import blocks

PAGE: Final = Path(__file__).parents[2] / "docs" / "deployment.md"
NAME: Final = re.compile(r"^[#;] ([\w./-]+)$", re.MULTILINE)
TEXTS: Final = {found[1]: block.text for block in blocks(PAGE) if (found := NAME.search(block.text))}
"""Every file that the page shows, by its path."""


def test_the_page_shows_them_all() -> None:
    assert set(TEXTS) == {
        "wsgi.py",
        "/etc/systemd/system/shop-worker.service",
        "/etc/init.d/shop-worker",
        "/etc/sv/shop-worker/run",
        "/etc/sv/shop-worker/log/run",
        "/etc/supervisor/conf.d/shop-worker.conf",
        "Dockerfile",
        "compose.yaml",
        "worker.yaml",
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_systemd_unit(tmp_path: Path) -> None:
    unit = tmp_path / "shop-worker.service"
    text = TEXTS["/etc/systemd/system/shop-worker.service"]
    unit.write_text(text.replace("/srv/shop/.venv/bin/outwork", sys.executable).replace("User=shop", "User=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    about_it = [line for line in done.stderr.splitlines() if unit.name in line]
    assert about_it == []


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if text.startswith("#!")])
def test_scripts_are_scripts(name: str) -> None:
    done = subprocess.run(["sh", "-n"], input=TEXTS[name], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_supervisord_program() -> None:
    parser = configparser.ConfigParser(strict=True)
    parser.read_string(TEXTS["/etc/supervisor/conf.d/shop-worker.conf"])
    assert parser.sections() == ["program:shop-worker"]


def test_everybody_waits_longer_than_the_grace_period() -> None:
    waits = re.findall(
        r"(?:TimeoutStopSec=|stopwaitsecs=|SIGTERM/|stop_grace_period: |GracePeriodSeconds: |sv -w )(\d+)",
        PAGE.read_text(),
    )
    assert waits == ["35"] * 6
