"""What `import outwork` costs, which is in every web process, and what a worker process needs on top."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

HEAVY: Final = {
    *("redis", "psycopg", "pymysql", "pika", "sqlite3"),  # drivers: loaded when a URL names them
    *("click", "rich", "tomllib", "argparse", "multiprocessing"),  # for the command line or a file only
    *("sqlalchemy", "django", "flask", "starlette"),  # frameworks: loaded by who uses them
}


def loaded_by(statement: str, where: Path) -> set[str]:
    script = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=where, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_import_loads_no_driver(tmp_path: Path) -> None:
    assert loaded_by("import outwork", tmp_path) & HEAVY == set()


def test_a_task_loads_no_driver(tmp_path: Path) -> None:
    declare = "from outwork import task\n@task(priority=5)\ndef add(x: int, y: int) -> int: return x + y\n"
    assert loaded_by(declare, tmp_path) & HEAVY == set()
    assert loaded_by(declare + "add.enqueue(1, 2).get(1)", tmp_path) & HEAVY == set()  # immediate


def test_a_worker_process_loads_no_command_line(tmp_path: Path) -> None:
    """Each of them would hold a megabyte more."""
    assert loaded_by("import outwork.worker.process", tmp_path) & HEAVY == set()
