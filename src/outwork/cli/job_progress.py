"""How far a job is, on the terminal: a bar that follows it, and what its task has said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from threading import Event
from typing import TYPE_CHECKING, Final

import click

from outwork.cli.output import moment, say

if TYPE_CHECKING:
    from outwork.app import Outwork
    from outwork.progress import Progress

LOOK_EVERY: Final = 0.5
STEPS: Final = 1000


def watch_job(app: Outwork, job_id: str) -> None:
    """Follow a job until it has ended or is not known: a bar on a terminal, otherwise a line for each new word."""
    if not sys.stderr.isatty():
        for said in _words_of(app, job_id):
            click.echo(_words(said), err=True)
        return
    with click.progressbar(length=STEPS, label=job_id, file=sys.stderr, show_eta=False) as bar:
        for said in _words_of(app, job_id):
            bar.label = said.message or bar.label
            bar.update(max(0, round(STEPS * (said.fraction or 0.0)) - bar.pos))


def _words_of(app: Outwork, job_id: str) -> Iterator[Progress]:
    """Each new word of the job's task until it has ended."""
    pause, last = Event(), None
    while True:
        record = app.look_up(job_id)
        said = app.progress_of(job_id)
        if said is not None and said != last:
            yield said
            last = said
        if record is None or record.state.finished:
            return
        pause.wait(LOOK_EVERY)


def say_progress(said: Progress | None) -> None:
    """Print what a task said last, and its lines of log."""
    if said is None:
        return
    say()
    say(f"progress  {_words(said)}")
    for line in said.log:
        say(f"  {moment(line.at)}  {line.text}")


def _words(said: Progress) -> str:
    of = "" if said.total is None else f" of {said.total:g}"
    share = "" if said.fraction is None else f" ({said.fraction:.0%})"
    return f"{said.done:g}{of}{share}" + (f"  {said.message}" if said.message else "")
