"""The cells of the scorecard that other tests fill: they show more than the standard load would. A test that is not
there, or that does not run, leaves its cell open: `make faults` writes what has happened."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

NAMES: Final = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "redis": "redis",
    "rabbitmq": "rabbitmq",
    "quorum": "rabbitmq",
    "classic": "rabbitmq",
    "thread": "thread:",
    "process": "process:",
}


class Proof(NamedTuple):
    """Tests whose node id matches fill the cell of this row. The broker is told, or found in the node id."""

    row: str
    tests: str
    broker: str = ""


WHAT: Final = {
    "19": "workers of two releases share the tables, one of them killed",
    "20": "eight processes fire a schedule, killed at the slot, with clocks that jump",
    "22": "garbage in the place of a job; a payload of 1 MiB",
    "28": "fork after connect",
    "29": "no byte is left on the disk of the worker",
    "30": "a storm: many of these at once, drawn from a seed, on every kind of job",
}
SUITE: Final = r"conformance/test_(?:sqlite|postgresql|mysql|redis|rabbitmq|memory)\.py::Test\w+::"
IN: Final = r"(?!\[memory:)"
"""Not the broker of the tests alone."""
PROOFS: Final = (
    Proof("2", r"embedded/test_children\.py::test_a_child_that_dies$", "process:"),
    Proof("4", r"embedded/test_gunicorn\.py::test_waiting_jobs_in_memory_run_while_the_server_ends$", "thread:"),
    Proof("13", r"faults/test_redis_groups\.py::test_a_failover_is_survived_", "redis"),
    Proof("13", r"faults/test_redis_groups\.py::test_a_node_that_dies_is_replaced_", "redis"),
    Proof("19", r"faults/test_schema_versions\.py::test_workers_of_the_first_version_go_on\["),
    Proof("20", r"faults/test_periodic\.py::test_eight_processes_fire_a_slot_once\["),
    Proof("20", r"faults/test_pairs\.py::test_eight_processes_fire_a_slot_once\[", "rabbitmq"),
    Proof("3", r"embedded/test_memory_faults\.py::test_a_process_that_stood_still_"),
    Proof("4", r"embedded/test_memory_faults\.py::test_waiting_jobs_run_in_children_", "process:"),
    Proof("17b", r"embedded/test_memory_faults\.py::test_a_child_that_holds_its_interpreter_", "process:"),
    Proof("21", r"embedded/test_memory_faults\.py::test_much_that_waits_"),
    Proof("5", r"embedded/test_children\.py::test_a_child_that_(?:dies|wants_too_much_memory)$", "process:"),
    Proof("22", SUITE + "test_a_payload_of_a_mebibyte_passes" + IN),
    Proof("22", SUITE + "test_a_body_that_nobody_can_read_is_handed_out_untouched" + IN),
    Proof("29", r"faults/test_workers\.py::test_the_own_disk_of_a_worker_is_full\["),
    Proof("28", r"faults/test_redis_faults\.py::test_parent_and_child_of_a_fork_", "redis"),
    Proof("28", r"faults/test_rabbitmq\.py::test_a_child_after_a_fork_", "rabbitmq"),
    Proof("28", r"faults/test_sql_faults\.py::test_a_child_after_a_fork_"),
    Proof("28", r"unit/test_sqlite_broker\.py::test_children_of_a_fork_open_", "sqlite"),
)


def cell_of(node_id: str) -> tuple[str, str] | None:
    """The row and the broker that a test fills, if it fills any."""
    for proof in PROOFS:
        if re.search(proof.tests, node_id):
            return proof.row, proof.broker or _broker(node_id)
    return None


def _broker(node_id: str) -> str:
    words = re.split(r"[^a-z]+", node_id.rpartition("::")[2].partition("[")[2]) or []
    file = re.findall(r"conformance/test_(\w+)\.py", node_id)
    return next(NAMES[word] for word in (*words, *file) if word in NAMES)
