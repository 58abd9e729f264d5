"""Learning what is healthy, in spite of what is not."""

from __future__ import annotations

import random
from statistics import median

from guard.detect.learner import LEAST_JUDGED, LEAST_STREAMS, REMEMBERED, BaselineLearner


def learner(streams: int, center: float, *, spread: float = 0.1, seed: int = 1) -> BaselineLearner:
    dice, result = random.Random(seed), BaselineLearner(k=3)
    for _ in range(streams):
        result.add(round(200 * (center + dice.uniform(-spread, spread))), 200)
    return result


def test_too_few_streams_give_no_baseline() -> None:
    assert learner(LEAST_STREAMS - 1, 0.6).baseline() is None


def test_the_baseline_is_the_median_of_the_streams() -> None:
    baseline = learner(100, 0.6).baseline()
    assert baseline is not None
    assert abs(baseline.probability - 0.6) < 0.03
    assert baseline.usable
    assert baseline.k == 3


def test_a_burst_of_bad_streams_does_not_move_it() -> None:
    learnt = learner(200, 0.6)
    for index in range(40):
        learnt.add(4 if index % 5 else 120, 200)
    baseline = learnt.baseline()
    assert baseline is not None
    assert abs(baseline.probability - 0.6) < 0.05


def test_one_long_answer_counts_once() -> None:
    learnt = learner(60, 0.6)
    learnt.add(0, 10_000_000)
    baseline = learnt.baseline()
    assert baseline is not None
    assert baseline.probability > 0.55


def test_short_streams_and_nonsense_are_left_out() -> None:
    learnt = BaselineLearner()
    learnt.add(3, LEAST_JUDGED - 1)
    learnt.add(-1, 100)
    learnt.add(101, 100)
    assert learnt.means == ()


def test_when_every_stream_is_low_there_is_no_baseline_to_hold_against_them() -> None:
    learnt = learner(100, 0.6)
    for _ in range(12):
        learnt.add(4, 200)
    assert learnt.changed
    assert learnt.baseline() is None
    assert learnt.weak_draft


def test_it_follows_a_lasting_change() -> None:
    learnt = learner(100, 0.6)
    for _ in range(REMEMBERED):
        learnt.add(80, 200)
    baseline = learnt.baseline()
    assert baseline is not None
    assert baseline.probability == 0.4


def test_a_deployment_low_throughout_has_a_weak_draft() -> None:
    assert learner(60, 0.03, spread=0.02).weak_draft
    assert not learner(60, 0.6).weak_draft
    assert not learner(5, 0.03, spread=0.02).weak_draft


def test_what_was_learnt_can_be_stored() -> None:
    learnt = learner(50, 0.6)
    again = BaselineLearner(3, learnt.means)
    assert again.baseline() == learnt.baseline()
    assert BaselineLearner(3, [2.0, -1.0, 0.5]).means == (0.5,)


def test_its_estimate_is_the_median_of_what_is_remembered_however_it_is_kept() -> None:
    dice, learnt = random.Random(5), BaselineLearner()
    for _ in range(3 * REMEMBERED):
        # Coarse, so that equal means come and go.
        learnt.add(dice.randrange(20, 41), 40)
        baseline = learnt.baseline()
        if len(learnt.means) >= LEAST_STREAMS:
            assert baseline is not None
            assert baseline.probability == median(learnt.means)
        assert len(learnt.means) <= REMEMBERED
