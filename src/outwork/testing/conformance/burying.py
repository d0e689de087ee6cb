"""Promises of a broker that keeps no records, and yet keeps the jobs that ended badly (`outwork.brokers.letters`)."""

from __future__ import annotations

import pytest

from outwork.brokers.letters import KeepsDeadLetters
from outwork.job import Dead, Done, State
from outwork.testing.conformance.rig import Promises, Rig, new_failure, new_job


class BuryingPromises(Promises):
    def test_dead_letters_are_looked_at_run_again_and_forgotten(self, rig: Rig) -> None:
        dead, other = rig.broker, rig.another().broker
        if not (isinstance(dead, KeepsDeadLetters) and isinstance(other, KeepsDeadLetters)):
            pytest.skip("dead letters")
        first = rig.end(Dead((new_failure("no such user"),)), new_job(task="suite.first"))
        second = rig.end(Dead((new_failure(),)), new_job(task="suite.second"))
        for _ in range(2):  # a look changes nothing
            found = other.dead_letters()
            assert [(one.id, one.task, one.state) for one in found] == [
                (first, "suite.first", State.FAILED),
                (second, "suite.second", State.FAILED),
            ]
            assert [error.message for error in found[0].errors] == ["no such user"]
        assert [one.id for one in dead.dead_letters([second, "unknown"])] == [second]
        assert other.revive([first, "unknown"]) == {first}
        again = rig.take_one()
        assert (again.id, again.attempt, [error.message for error in again.errors]) == (first, 1, ["no such user"])
        rig.settle(again, Done(b"1"))
        assert other.forget_dead([first, second]) == {second}
        assert dead.dead_letters() == []
        assert rig.claim() == []
