"""The command line, made of click objects: add `worker_command`, or the whole `main`, to a group of your own."""

from outwork.cli.config import config_command
from outwork.cli.init import init_command
from outwork.cli.jobs import jobs_group
from outwork.cli.migrate import migrate_command
from outwork.cli.prune import prune_command
from outwork.cli.root import main
from outwork.cli.status import status_command
from outwork.cli.tasks import enqueue_command, tasks_command
from outwork.cli.worker import worker_command

__all__ = [
    "config_command",
    "enqueue_command",
    "init_command",
    "jobs_group",
    "main",
    "migrate_command",
    "prune_command",
    "status_command",
    "tasks_command",
    "worker_command",
]
