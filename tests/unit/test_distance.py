"""What a worker makes of how long its broker's answers take."""

from __future__ import annotations

import pytest

from outwork.worker.distance import BATCH, FAR_BATCH, FAR_BYTES, FARTHEST, LOOKS, REMEMBERED, WORK, Distance


def after(*seconds: float, near: int = 1, afar: int = 1, bodies: tuple[int, ...] = ()) -> Distance:
    """What is known after exchanges that took so long."""
    distance = Distance(near, afar)
    for one in seconds:
        distance.learn(one, 0, list(bodies))
    return distance


def test_a_few_slow_answers_are_not_the_way() -> None:
    assert not after().far
    assert not after(*[0.3] * (LOOKS - 1)).far
    assert not after(*[0.3] * (LOOKS - 1), 0.002, *[0.3] * (LOOKS - 1)).far
    assert after(*[0.3] * LOOKS).waiting == 0.3
    assert after(*[0.3] * LOOKS, 0.04).waiting == 0.04
    assert not after(*[0.3] * LOOKS, 0.004, *[0.3] * (REMEMBERED - 1)).far
    assert after(0.004, *[0.3] * REMEMBERED).waiting == 0.3


def test_work_is_not_waiting() -> None:
    """Large batches of a busy server that is near do not make it far."""
    distance = Distance()
    for _ in range(LOOKS):
        distance.learn(0.002 + 2 * BATCH * WORK, BATCH, [100] * BATCH)
    assert not distance.far
    assert distance.batch == BATCH


def test_nothing_is_bridged_without_end() -> None:
    assert after(*[60.0] * LOOKS).waiting == FARTHEST


@pytest.mark.parametrize(
    ("size", "batch"), [(100, FAR_BATCH), (FAR_BYTES // 500, 500), (FAR_BYTES // 10, BATCH), (FAR_BYTES * 2, BATCH)]
)
def test_a_batch_that_comes_from_afar_is_larger_if_its_jobs_are_small(size: int, batch: int) -> None:
    assert after(*[0.05] * LOOKS, bodies=(size,)).batch == batch


def test_exchanges_are_spread_over_the_way() -> None:
    near = after(*[0.004] * LOOKS, near=2, afar=4)
    assert (near.at_once, near.apart) == (2, 0.0)
    far = after(*[0.2] * LOOKS, near=2, afar=4)
    assert (far.at_once, far.apart) == (4, 0.05)
