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
}


class Proof(NamedTuple):
    """Tests whose node id matches fill the cell of this row. The broker is told, or found in the node id."""

    row: str
    tests: str
    broker: str = ""


WHAT: Final = {
    "13": "failover to a replica (Sentinel, Cluster)",
    "14": "the disk is full, and has room again",
    "19": "workers of two releases share the tables, one of them killed",
    "20": "eight processes fire a schedule, killed at the slot, with clocks that jump",
    "22": "garbage in the place of a job; a payload of 1 MiB",
    "28": "fork after connect",
}
SUITE: Final = r"conformance/test_(?:sqlite|postgresql|mysql|redis|rabbitmq)\.py::Test\w+::"
PROOFS: Final = (
    Proof("2", r"embedded/test_children\.py::test_a_child_that_dies$", "process:"),
    Proof("4", r"embedded/test_gunicorn\.py::test_waiting_jobs_in_memory_run_while_the_server_ends$", "thread:"),
    Proof("13", r"faults/test_redis_groups\.py::test_a_failover_is_survived_", "redis"),
    Proof("13", r"faults/test_redis_groups\.py::test_a_node_that_dies_is_replaced_", "redis"),
    Proof("14", r"faults/test_files\.py::test_a_full_disk\["),
    Proof("19", r"faults/test_schema_versions\.py::test_workers_of_the_first_version_go_on\["),
    Proof("20", r"faults/test_periodic\.py::test_eight_processes_fire_a_slot_once\["),
    Proof("20", r"faults/test_pairs\.py::test_eight_processes_fire_a_slot_once\[", "rabbitmq"),
    Proof("22", SUITE + "test_a_payload_of_a_mebibyte_passes"),
    Proof("22", SUITE + "test_a_body_that_nobody_can_read_is_handed_out_untouched"),
    Proof("28", r"faults/test_redis_faults\.py::test_parent_and_child_of_a_fork_", "redis"),
    Proof("28", r"faults/test_rabbitmq\.py::test_a_child_after_a_fork_", "rabbitmq"),
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
