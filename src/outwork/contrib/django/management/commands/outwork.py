"""`manage.py outwork ...`: the command line of Outwork, with Django set up and a backend's broker chosen."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from outwork.contrib.django.load import hand_down, target_of
from outwork.contrib.django.management.support import backend_named, end


class Command(BaseCommand):
    help = "Run a command of Outwork on a task backend: manage.py outwork [--backend ALIAS] status, jobs, enqueue, ..."
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django has it

    def run_from_argv(self, argv: list[str]) -> None:
        """The words are click's, not Django's; `--backend`, `--settings` and `--pythonpath` may stand before them."""
        words = list(argv[2:])
        alias = "default"
        while words and words[0].partition("=")[0] in ("--backend", "--settings", "--pythonpath"):
            name, equals, value = words.pop(0).partition("=")
            value = value if equals else words.pop(0) if words else ""
            if name == "--backend":
                alias = value
        try:
            end(self.execute_words(alias, words))
        except CommandError as error:
            self.stderr.write(f"{type(error).__name__}: {error}")
            sys.exit(error.returncode)

    def handle(self, *args: Any, **options: Any) -> None:
        """For `call_command("outwork", "jobs", "ls", backend="default")`."""
        end(self.execute_words(options.get("backend", "default"), list(args)))

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--backend", default="default")
        parser.add_argument("args", nargs="*")

    def execute_words(self, alias: str, words: list[str]) -> int:
        from outwork.cli import main

        backend = backend_named(alias)
        hand_down()
        starter = "python manage.py outwork_worker" + (f" --backend {alias}" if alias != "default" else "")
        args = ["-A", target_of(backend.alias), *(words or ["--help"])]
        try:
            main.main(args=args, prog_name="manage.py outwork", standalone_mode=True, obj=starter)
        except SystemExit as ended:
            return int(ended.code or 0) if not isinstance(ended.code, str) else 1
        return 0
