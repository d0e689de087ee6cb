"""Whose turn it is: each queue is served as often as its weight says."""

from __future__ import annotations

from collections import Counter

from outwork.worker.appetite import Turns


def firsts(turns: Turns, names: tuple[str, ...], number: int) -> list[str]:
    return [turns.next(names)[0] for _ in range(number)]


def test_without_weights_each_is_the_first_once_in_a_round() -> None:
    assert Counter(firsts(Turns({}), ("a", "b", "c"), 30)) == {"a": 10, "b": 10, "c": 10}


def test_each_is_the_first_as_often_as_its_weight_says() -> None:
    assert Counter(firsts(Turns({"mail": 10}), ("mail", "bulk"), 110)) == {"mail": 100, "bulk": 10}


def test_turns_are_spread_evenly() -> None:
    assert firsts(Turns({"a": 2}), ("a", "b"), 6) in (["a", "b", "a"] * 2, ["a", "a", "b"] * 2, ["b", "a", "a"] * 2)


def test_every_queue_is_in_every_turn() -> None:
    turns = Turns({"a": 5})
    assert all(sorted(turns.next(("a", "b", "c"))) == ["a", "b", "c"] for _ in range(20))


def test_a_queue_that_was_away_saves_nothing_up() -> None:
    turns = Turns({"a": 3})
    firsts(turns, ("b", "c"), 50)
    assert Counter(firsts(turns, ("a", "b"), 40))["a"] >= 28


def test_one_queue_needs_no_turn() -> None:
    assert Turns({"a": 3}).next(("a",)) == ("a",)
