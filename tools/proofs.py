"""Which tests show that the five products of docs/mission.md can run their background work here.

A test that is named `test_row_C1_...` shows the row C1; the others are named below, and one that does not exist is an
error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
TESTS: Final = ROOT / "tests"

ROWS: Final = {
    "C1": "inline by default: no URL, and the task runs before the request returns",
    "C2": "the URL picks the broker; what is not known in it is an error",
    "C3": "a named class beats the guess",
    "C4": "extras; a missing driver says which one to install",
    "C5": "a worker command under the application's own command line",
    "C6": "the application's context in every task",
    "C7": "mail, text messages and provisioning: retried, delivered once, given up when refused",
    "C8": "an unchanged application of Dramatiq, also after `kill -9`",
    "H1": "a channel layer that keeps the specification",
    "H2": "`runworker` for consumers, sync and async",
    "H3": "at most once, really: nothing twice, never deaf, poison harms itself only",
    "H4": "sending from sync and async code",
    "H5": "the sender can find out that nobody listens",
    "F1": "form values are summed, and the answer comes at once",
    "F2": "Redis and RabbitMQ flavours, reload in development",
    "F3": "the Flask extension",
    "Q1": "`[worker] type = ...` in the configuration",
    "Q2": "response first, then the task; a durable broker has its job before the response leaves",
    "Q3": "separate processes; code written on executors",
    "Q4": "several processes and servers; a restart of any part doubles nothing",
    "Q5": "dependencies given to tasks",
    "A1": "Django's `TASKS` setting chooses the backend",
    "A2": "the whole API of `django.tasks`, on 5.2 with the backport and on 6.x",
    "A3": "enqueue joins the caller's transaction",
    "A4": "management commands",
    "A5": "SIGKILL leaves nothing stuck; retries",
    "A6": "periodic tasks in the code, each slot once",
    "A7": "supervised by systemd, containers and their like",
    "A8": "completed jobs are pruned without a cron job",
}

OTHERS: Final = {
    "C7": ("contrib/test_mail.py", "contrib/test_provisioning.py", "contrib/test_sms.py"),
    "H1": ("contrib/channels/test_layers.py", "contrib/channels/test_redis_layouts.py"),
    "H2": (
        "contrib/channels/test_workers.py::test_channels_own_runworker",
        "contrib/channels/test_workers.py::test_the_command_line_finds_the_layer_of_django",
        "docs/test_pages.py::test_what_a_page_shows_is_what_happens[docs/channels.md]",
    ),
    "H3": (
        "contrib/channels/test_workers.py::test_three_workers_handle_each_of_ten_thousand_once",
        "contrib/channels/test_workers.py::test_a_worker_that_was_idle_is_not_deaf",
        "contrib/channels/test_workers.py::test_poison_of_every_kind",
        "contrib/channels/test_workers.py::test_sigterm_leaves_a_thousand_unread",
        "contrib/channels/test_workers.py::test_the_store_is_restarted_while_workers_are_idle_and_busy",
        "contrib/channels/test_workers.py::test_a_file_is_locked_while_a_worker_is_idle_and_busy",
        "contrib/channels/test_workers.py::test_no_more_is_taken_than_is_in_hand",
    ),
    "H4": ("contrib/channels/test_workers.py::test_many_threads_send_by_one_connection",),
    "H5": (
        "contrib/channels/test_workers.py::test_status_tells_of_channels",
        "contrib/channels/test_layers.py -k test_a_channel_without_a_reader_is_told_of",
    ),
    "A1": ("contrib/django/test_elsewhere.py::test_on_a_server",),
    "A2": ("contrib/django/test_api.py", "contrib/django/test_options.py"),
    "A3": ("contrib/django/test_unsent.py", "contrib/django/test_elsewhere.py::test_on_a_server"),
    "A4": ("contrib/django/test_commands.py",),
    "A7": (
        "contrib/django/test_worker.py::test_row_A4_a_batch",  # exit code 1
        "contrib/django/test_worker.py::test_a_worker_that_nobody_can_start",  # 2
        "contrib/django/test_worker.py::test_a_worker_without_tables",  # 2
        "contrib/django/test_worker.py::test_a_database_that_is_away",  # 3, or it waits
        "docs/test_deployment.py",
        "docs/test_supervision.py",
    ),
    "A8": ("contrib/django/test_database.py::test_finished_jobs_are_kept_for_two_weeks", "unit/test_retention.py"),
}


def proofs() -> dict[str, list[str]]:
    """The tests of each row, below tests/, in words that pytest takes. Raises LookupError for one that is not there."""
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    for path in sorted(TESTS.rglob("test_*.py")):
        for row in dict.fromkeys(re.findall(r"^(?:async )?def test_row_([A-Z]\d)_", path.read_text(), re.MULTILINE)):
            found[row].append(f"{path.relative_to(TESTS)} -k row_{row}")
    for row, names in OTHERS.items():
        for name in names:
            if not _is_there(name):
                raise LookupError(f"{row}: there is no test {name}")
            found[row].append(name)
    return found


def _is_there(name: str) -> bool:
    """A file; `file::test` or `file::test[page]`; `file -k test`, where the test may be in a suite beside the file."""
    file, _, test = name.replace(" -k ", "::").partition("::")
    test, _, page = test.rstrip("]").partition("[")
    path = TESTS / file
    if not path.exists() or not (ROOT / page).exists():
        return False
    suites = path.parent.glob("*_suite.py") if " -k " in name else ()
    return not test or any(f"def {test}(" in one.read_text() for one in (path, *suites))
