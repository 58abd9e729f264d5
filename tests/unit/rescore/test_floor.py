"""The healthy floor: assumed, then measured, and hard to raise by a corrupted answer."""

from __future__ import annotations

import pytest

from guard.rescore.floor import ASSUMED, EDGES, LEAST_TOKENS, Floor, FloorLearner, count_beyond, measured


def test_differences_are_counted_beyond_each_edge_and_an_edge_itself_is_not_beyond() -> None:
    assert count_beyond([0.0, 0.02, 0.021, 0.06, 0.3, 5.0]) == (4, 3, 2, 2, 1)
    assert count_beyond([]) == (0,) * len(EDGES)


def test_too_few_tokens_measure_nothing() -> None:
    assert measured((0,) * 5, LEAST_TOKENS - 1) == Floor(ASSUMED)


def test_an_exact_engine_gets_a_low_floor_but_never_one_of_zero() -> None:
    floor = measured((0,) * 5, 3_000)
    assert floor.tails[0] == pytest.approx(3 / 3_003)
    assert floor.tails[-1] == pytest.approx(3 / 3_003)
    assert min(floor.tails) > 0


def test_a_noisy_engine_raises_its_floor_above_the_assumed_one() -> None:
    floor = measured((600, 300, 200, 90, 1), 1_000)
    assert floor.tails[0] > 0.6
    assert floor.tails[3] > 0.09
    assert list(floor.tails) == sorted(floor.tails, reverse=True)


def test_the_floor_is_settled_after_so_many_answers_and_tokens() -> None:
    learner = FloorLearner(2)
    learner.add([0.0] * 400)
    assert not learner.settled
    learner.add([0.0] * 400)
    assert learner.settled
    assert learner.floor.tokens == 800
    short = FloorLearner(1)
    short.add([0.0] * 10)
    assert not short.settled
    with pytest.raises(ValueError, match="at least 1 answer"):
        FloorLearner(0)


def test_a_corrupted_answer_among_the_first_is_left_out() -> None:
    clean, spoilt = FloorLearner(10), FloorLearner(10)
    for number in range(10):
        clean.add([0.0] * 200)
        spoilt.add([3.0] * 200 if number == 4 else [0.0] * 200)
    assert spoilt.floor == clean.floor


def test_the_floor_follows_the_deployment_and_memory_is_bounded() -> None:
    learner = FloorLearner(1)
    learner.add([0.0] * 1_000)
    for _ in range(300):
        learner.add([0.03] * 1_000)
    assert learner.floor.tails[0] > 0.9
    assert learner.floor.tokens <= 201_000
