"""The project in a folder of its own, used through its commands, as its operator would."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from support.waiting import until
from support.workers import Running

HERE = Path(__file__).parents[1]
STATES = """
    SELECT 'READY', count(*) FROM outwork_ready UNION ALL SELECT 'SCHEDULED', count(*) FROM outwork_scheduled
    UNION ALL SELECT 'RUNNING', count(*) FROM outwork_running
    UNION ALL SELECT state, count(*) FROM outwork_ended GROUP BY state"""


class Database:
    """A migrated database: how Django is told of it, and how a test looks into it."""

    def __init__(self, settings: dict[str, Any], server: Any = None) -> None:
        self.settings = settings
        self._server = server

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        if self._server is not None:
            found: list[tuple[Any, ...]] = self._server.ask(sql, database=self.settings["NAME"])
            return found
        with closing(sqlite3.connect(self.settings["NAME"], timeout=20)) as connection:
            found = connection.execute(sql).fetchall()
            connection.commit()
            return found

    @classmethod
    def file(cls, folder: Path, template: Path | None = None) -> Database:
        path = folder / "db.sqlite3"
        if template is not None:
            shutil.copy(template, path)
        options = {"transaction_mode": "IMMEDIATE", "timeout": 20}
        return cls({"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": options})


class Project:
    """The project in a folder of its own, used through its commands."""

    def __init__(self, folder: Path, environ: dict[str, str], database: Database) -> None:
        self.folder = folder
        self.database = database
        self.environ = environ | {"KIOSK_SMALL": "1", "KIOSK_DATABASES": json.dumps({"default": database.settings})}
        self._workers: list[Running] = []

    def command(self, *words: str) -> list[str]:
        return [sys.executable, str(HERE / "manage.py"), *words]

    def run(self, *words: str, code: int = 0, traceback: bool = False) -> str:
        """Run a command of manage.py to its end: what it said. Whether it may show a traceback for wrong input."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in done.stderr or code != 2 or traceback, said
        return said

    def shell(self, script: str, code: int = 0) -> str:
        """Run a script with all tasks imported; what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\nfrom kiosk.tasks import *\n{script}"],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    def start(self, *words: str) -> Running:
        """Start a worker; it may not be ready yet."""
        log = self.folder / f"worker-{len(self._workers) + 1}.log"
        with log.open("wb") as handle:
            process = subprocess.Popen(
                self.command("outwork_worker", "--skip-checks", *words),
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                start_new_session=True,
            )
        self._workers.append(Running(process, log))
        return self._workers[-1]

    def lines(self) -> list[str]:
        """The ledger that the tasks write."""
        path = self.folder / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, line: str, times: int = 1) -> None:
        until(lambda: self.lines().count(line) >= times, f"{line!r} {times} times")

    def clean_up(self) -> None:
        for worker in self._workers:
            worker.clean_up()

    def states(self) -> dict[str, int]:
        """How many jobs are in each state."""
        return {state: count for state, count in self.database.query(STATES) if count}

    def starts(self) -> Counter[str]:
        """How often each task was started."""
        return Counter(line.partition(" ")[2] for line in self.lines() if line.startswith("start "))
