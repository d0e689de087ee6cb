"""The example project, and what its documentation shows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "django-alarms"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "alarms", ignore=shutil.ignore_patterns("*.sqlite3*", "outbox")))


def manage(folder: Path, *words: str, tasks: str = "database", code: int = 0) -> str:
    """Run a command of the example; what it said."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("ALARMS_", "DJANGO_", "OUTWORK_"))
    }
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=folder,
        env=clean | {"ALARMS_TASKS": tasks, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def mails(folder: Path) -> list[str]:
    """Who was told, by the files in the outbox."""
    texts = [path.read_text() for path in (folder / "outbox").glob("*.log")]
    return sorted(line for text in texts for line in text.splitlines() if line.startswith(("To:", "Subject:")))


def test_an_event_is_told_to_everybody_who_wants_to_know(folder: Path) -> None:
    manage(folder, "migrate", "-v0")
    manage(folder, "loaddata", "people")
    assert manage(folder, "report", "web1", "2", "disk full") == "event 1, ready\n"
    assert manage(folder, "report", "web2", "4", "disk filling") == "event 2, ready\n"
    assert not (folder / "outbox").exists()
    manage(folder, "outwork_worker", "--batch")
    assert mails(folder) == [
        "Subject: [2] web1",
        "Subject: [2] web1",
        "Subject: [4] web2",
        "To: day@example.com",
        "To: day@example.com",
        "To: night@example.com",
    ]
    assert manage(folder, "report", "web3", "2", "no worker needed", tasks="immediate") == "event 3, successful\n"
    assert mails(folder).count("Subject: [2] web3") == 2
    assert "2 jobs would be forgotten" not in manage(folder, "outwork_prune", "--dry-run")


def test_a_mail_server_that_is_away(folder: Path) -> None:
    manage(folder, "migrate", "-v0")
    manage(folder, "loaddata", "people")
    settings = folder / "site_of_alarms" / "settings.py"
    works = settings.read_text()
    settings.write_text(works.replace("django.core.mail.backends.filebased.EmailBackend", "site_of_alarms.away.Away"))
    (folder / "site_of_alarms" / "away.py").write_text(
        "class Away:\n"
        "    def __init__(self, *args, **options): pass\n"
        "    def send_messages(self, messages): raise ConnectionRefusedError('away')\n"
    )
    manage(folder, "report", "web1", "5", "hello")
    code = "from outwork.contrib.django.testing import enqueued, run_jobs; run_jobs()"
    said = manage(folder, "shell", "-c", f"{code}; print(enqueued()[-1].status, enqueued()[-1].attempts)")
    assert said.splitlines()[-1] == "READY 1"  # it waits for its second attempt
    settings.write_text(works)
    manage(folder, "outwork_worker", "--batch")
    assert mails(folder) == ["Subject: [5] web1", "To: day@example.com"]  # within a second or two


def test_its_migrations_are_complete(folder: Path) -> None:
    manage(folder, "makemigrations", "--check", "--dry-run")
