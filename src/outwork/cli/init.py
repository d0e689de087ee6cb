"""`outwork init`: a configuration file and a first task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from outwork.cli.common import FAILED, Command
from outwork.cli.output import say

SETTINGS: Final = """\
# The settings of Outwork. An environment variable beats a line here: OUTWORK_BROKER_URL, OUTWORK_WORKER__CONCURRENCY.
# `outwork config` shows every setting, its value and where it comes from.

# Where the jobs are: a SQLite file beside this one. Without this line tasks run at once, in their callers.
broker_url = "sqlite:///outwork.db"

# The modules with your tasks, which a worker imports.
modules = ["tasks"]

# The queues there may be; without this line any name is good.
# queues = ["default", "mail"]

# [worker]
# concurrency = 20        # jobs in hand at once in each process
# processes = 1
# grace = "25s"           # how long running jobs may take to end when the worker is stopped
# queues = ["mail:4"]     # serve only these; at most 4 jobs of mail at once
# log_format = "text"     # or "json"

# [retention]
# results = "1d"          # how long finished jobs are kept
# failed = "14d"          # and failed ones
"""

TASKS: Final = '''\
"""The tasks of this application."""

from outwork import task


@task
def greet(name: str, times: int = 1) -> str:
    return f"hello {name} " * times
'''

FILES: Final = (
    ("outwork.toml", SETTINGS, '(broker_url = "sqlite:///outwork.db", beside this file)'),
    ("tasks.py", TASKS, "(one task: tasks.greet)"),
)


@click.command("init", cls=Command)
def init_command() -> None:
    """Write outwork.toml and a first tasks.py into the current directory; what is there is never overwritten."""
    width = max(len(name) for name, _, _ in FILES)
    for name, text, note in FILES:
        try:
            with Path(name).open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            say(f"kept  {name.ljust(width)}  (it was there before)")
        except OSError as error:
            click.echo(f"outwork: cannot write {Path(name).absolute()}: {error.strerror}", err=True)
            sys.exit(FAILED)
        else:
            say(f"wrote {name.ljust(width)}  {note}")
