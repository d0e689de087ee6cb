"""`examples/embedded_web`, served and asked as its README says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from signal import SIGINT

import pytest

from support.sites import Site, Sites
from support.waiting import until

EXAMPLE = Path(__file__).parents[2] / "examples" / "embedded_web"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in EXAMPLE.glob("*.py"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture
def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OUTWORK_")}


def serve(sites: Sites) -> Site:
    return sites.start("serve.py", "PORT")


def test_the_guestbook(sites: Sites, folder: Path) -> None:
    site = serve(sites)
    assert site.get() == "no jobs yet\n"
    first = site.get("/sign?name=Ada").strip()
    until(lambda: site.get(f"/job?id={first}") == "Welcome, Ada!\n", "the end of the job")
    assert site.get() == "1 successful\n"
    last = site.get("/sign?name=Bob").strip()
    assert site.stop() == 0
    again = serve(sites)
    until(lambda: again.get(f"/job?id={last}") == "Welcome, Bob!\n", "the end of the last job")
    assert again.stop(SIGINT) == 0
