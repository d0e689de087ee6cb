"""`manage.py outwork_prune`: forget finished jobs."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from outwork.brokers.base import Filter
from outwork.contrib.django.management.support import (
    CheckedCommand,
    add_backend_option,
    backend_named,
    check_tables,
    complaining,
    names,
)

DAY = 86_400.0
DAYS = 14.0


class Command(CheckedCommand):
    help = "Forget jobs that ended long ago. The worker does so by itself; this is for now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_backend_option(parser)
        add = parser.add_argument
        add("--min-age-days", type=_days, default=DAYS, metavar="N", help="How old finished jobs must be.  [14]")
        add("--failed-min-age-days", type=_days, metavar="N", help="The same for failed ones.  [as --min-age-days]")
        add("-q", "--queue-name", action="append", metavar="A,B", help="Only jobs of these queues.  [all]")
        add("--dry-run", action="store_true", help="Say how many there are, and forget none.")

    def handle(self, *args: Any, **options: Any) -> None:
        backend = backend_named(options["backend"])
        older = options["min_age_days"] * DAY
        failed = older if options["failed_min_age_days"] is None else options["failed_min_age_days"] * DAY
        dry = options["dry_run"]
        count = 0
        with complaining():
            check_tables(backend)
            store = backend.store
            if store is None or not backend.capabilities.shared:
                raise CommandError(f"TASKS[{backend.alias!r}] shares no finished jobs: there is nothing to prune")
            queues: list[str | None] = [*names(options["queue_name"])]
            for queue in queues or [None]:
                which = Filter(queue=queue)
                while gone := store.prune(which, older_than=older, failed_older_than=failed, dry_run=dry):
                    count += gone
                    if dry:
                        break
        verb = "would be forgotten" if dry else "forgotten"
        self.stdout.write(f"{count:,} job{'' if count == 1 else 's'} {verb}")


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < float("inf"):
        raise ValueError(text)
    return days
