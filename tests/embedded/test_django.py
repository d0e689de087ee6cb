"""Under Django's `runserver`, and in its management commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT

import pytest

from embedded.books import Books
from outwork.job import State
from support.ledger import Ledger
from support.sites import Site, Sites, threads_of
from support.waiting import until

PROJECT = {
    "manage.py": """
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
execute_from_command_line(sys.argv)
""",
    "site_settings.py": """
SECRET_KEY = "for tests only"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "site_urls"
WSGI_APPLICATION = "site_wsgi.application"
INSTALLED_APPS = ["site_app"]
USE_TZ = True
""",
    "site_urls.py": """
from django.http import HttpResponse
from django.urls import path
from embedded import shop

def serve(request):
    return HttpResponse(shop.answer(request.path, request.META["QUERY_STRING"]))

urlpatterns = [path("", serve), path("enqueue", serve)]
""",
    "site_wsgi.py": """
from django.core.wsgi import get_wsgi_application
from outwork.serving import wsgi
application = wsgi(get_wsgi_application())
""",
    "site_app/__init__.py": "",
    "site_app/apps.py": """
import os
from django.apps import AppConfig

class SiteConfig(AppConfig):
    name = "site_app"

    def ready(self):
        if "AT_READY" in os.environ:
            from embedded import shop
            shop.step.enqueue(os.environ["AT_READY"])
""",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def manage(sites: Sites, *words: str, **environ: str) -> Site:
    return sites.start("manage.py", *words, **environ)


def test_runserver(
    sites: Sites, books: Books, ledger: Ledger, project: Path, gate: Path, starts: Callable[..., int]
) -> None:
    books.schedule_for_yesterday("yesterday")
    site = manage(sites, "runserver", "PORT", AT_READY="ready").listening()
    site.get()
    starts("yesterday")
    site.get("/enqueue?key=request&n=20")
    until(lambda: ledger.count("E") == 23, "the end of all jobs; parent and child have enqueued when they were ready")
    assert set((ledger.keys("S") - Counter(["ready"])).values()) == {1}
    [serving] = site.below()
    assert books.workers() == {serving}
    assert {entry.pid for entry in ledger.entries()} == {serving}
    assert threads_of(site.pid) == 1
    site.get("/enqueue?task=gated&key=long")
    starts("long")
    site.stop(SIGINT, group=True)
    assert len(books.given_back()) == 1
    assert books.workers() == set()
    gate.touch()
    manage(sites, "runserver", "PORT", "--noreload").get()
    until(lambda: ledger.count("E", "long") == 1, "its end after a restart, without any enqueue")


def test_a_management_command_starts_nothing(sites: Sites, books: Books, ledger: Ledger) -> None:
    site = manage(sites, "shell", "-c", "from embedded import shop; shop.step.enqueue('shell')")
    assert site.wait() == 0, site.text()
    assert len(books.records(State.READY)) == 1
    assert books.workers() == set()
    assert ledger.entries() == []


def test_a_management_command_runs_what_is_in_its_memory(sites: Sites, ledger: Ledger) -> None:
    code = "from embedded import shop; shop.step.enqueue('shell', 0.3)"
    site = manage(sites, "shell", "-c", code, OUTWORK_BROKER_URL="thread:")
    assert site.wait() == 0, site.text()
    assert [(entry.event, entry.pid) for entry in ledger.entries()] == [("S", site.pid), ("E", site.pid)]
