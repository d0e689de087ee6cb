"""The service files of docs/deployment.md and of the examples, and a machine (a folder) that they can be used on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from docs.runner import blocks
from support.ledger import VARIABLE, Ledger
from support.programs import ended
from support.workers import Running

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "deployment.md"
BIN: Final = Path(sys.executable).parent
NAME: Final = re.compile(r"^[#;] ([\w./-]+)$", re.MULTILINE)
TEXTS: Final = {found[1]: block.text for block in blocks(PAGE) if (found := NAME.search(block.text))}
"""Every file that the page shows, by its path."""

SYSTEMD: Final = "/etc/systemd/system/shop-worker.service"
OPENRC: Final = "/etc/init.d/shop-worker"
RUNIT: Final = "/etc/sv/shop-worker/run"
RUNIT_LOG: Final = "/etc/sv/shop-worker/log/run"
SUPERVISORD: Final = "/etc/supervisor/conf.d/shop-worker.conf"

EXAMPLE: Final = ROOT / "examples" / "django-alarms"
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

TASKS: Final = """\
from outwork import task
from support.ledger import write


@task
def pack(key: str) -> None:
    write("S", key)


@task
def carry(key: str, seconds: float) -> None:
    import time

    write("S", key)
    time.sleep(seconds)
    write("E", key)
"""
CHPST: Final = '#!/bin/sh\n[ "$1 $2" = "-u shop:shop" ] && shift 2 && exec "$@"\n'
"""A `chpst` for a machine that has neither runit nor this user."""
SUPERVISE_DAEMON: Final = '#!/bin/sh\necho "$@"\n'


def for_django(text: str) -> str:
    for ours, djangos in DJANGO:
        text = text.replace(ours, djangos)
    return text


class Machine:
    """A folder with an application, its configuration, and the programs that the files name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        self.url = f"sqlite:///{folder}/jobs.db"
        for name in ("etc", "bin", "log/shop-worker"):
            (folder / name).mkdir(parents=True)
        for name, script in (("chpst", CHPST), ("supervise-daemon", SUPERVISE_DAEMON)):
            self.script(folder / "bin" / name, script)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OUTWORK_", "ALARMS_"))}
        self.environ = clean | {
            "PATH": f"{folder}/bin:{BIN}:{clean['PATH']}",
            "PYTHONPATH": str(ROOT / "tests"),
            "PYTHONUNBUFFERED": "1",
            "ALARMS_FOLDER": str(folder),
            "RC_SVCNAME": "shop-worker",
            VARIABLE: str(self.ledger.path),
        }
        (folder / "etc" / "outwork.toml").write_text(f'broker_url = "{self.url}"\nmodules = ["shop.tasks"]\n')
        (folder / "etc" / "outwork.env").write_text("OUTWORK_WORKER__CONCURRENCY=3\n")

    def shop(self) -> Machine:
        """With an application of no framework."""
        (self.folder / "shop").mkdir()
        (self.folder / "shop" / "tasks.py").write_text(TASKS)
        return self

    def alarms(self) -> Machine:
        """With the example for Django, migrated."""
        shutil.copytree(EXAMPLE, self.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sqlite3*", "outbox"))
        self.run("python", "manage.py", "migrate", "-v0")
        return self

    def here(self, text: str) -> str:
        """The text with the paths of this machine."""
        text = re.sub(r"/srv/(shop|alarms)/\.venv/bin", str(BIN), text)
        text = text.replace("/etc/alarms.env", "/etc/shop/outwork.env").replace("/etc/shop", f"{self.folder}/etc")
        return re.sub(r"/srv/(shop|alarms)", str(self.folder), text).replace("/var/log", f"{self.folder}/log")

    def script(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def run(self, *words: str, code: int = 0, **environ: str) -> str:
        """Run a program to an end with this exit code; what it said, both ways."""
        found, said = ended([self.found(words[0]), *words[1:]], self.folder, self.environ | environ)
        assert found == code, f"{' '.join(words)} ended with {found}:\n{said}"
        return said

    def found(self, program: str) -> str:
        path = shutil.which(program, path=self.environ["PATH"])
        assert path is not None, f"there is no program {program}"
        return path

    def enqueue(self, *words: str) -> None:
        """A job for the application of no framework."""
        self.run("outwork", "enqueue", "--config", "etc/outwork.toml", *words)

    @contextmanager
    def running(self, words: list[str], environ: Mapping[str, str]) -> Iterator[Running]:
        """A program that does not outlive the block, nor does what it starts."""
        log = self.folder / "said.log"
        with log.open("wb") as handle:
            process = subprocess.Popen(
                [self.found(words[0]), *words[1:]],
                cwd=self.folder,
                env={**self.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                start_new_session=True,
            )
        running = Running(process, log)
        try:
            yield running
        finally:
            running.clean_up()
