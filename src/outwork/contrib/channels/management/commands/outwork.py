"""`manage.py outwork status` where channels are all that is used of Outwork; with its task backends, theirs."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand


class WithoutTasks(BaseCommand):
    """The command line, which finds the layers because Django has been set up."""

    help = "Run a command of Outwork: manage.py outwork status shows the channels."
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django has it

    def run_from_argv(self, argv: list[str]) -> None:
        """The words are click's, not Django's."""
        self.handle(*argv[2:])

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("args", nargs="*")

    def handle(self, *args: Any, **options: Any) -> None:
        from outwork.cli import main

        main.main(args=list(args), prog_name="manage.py outwork", standalone_mode=True)


def _command() -> type[BaseCommand]:
    """Whichever of the two applications comes first in INSTALLED_APPS, tasks need their backend."""
    if not apps.is_installed("outwork.contrib.django"):
        return WithoutTasks
    from outwork.contrib.django.management.commands import outwork

    return outwork.Command


Command = _command()
