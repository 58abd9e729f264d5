"""Windows over log-probabilities."""

from __future__ import annotations

import math

import pytest

from guard.detect.logprob import BLOCK, LEAST, Logprobs, LogprobWindow
from guard.types import SignalRef, Unit, Window

WINDOW = Window(32, Unit.TOKENS)
MEAN, FALL, ALL = SignalRef("logprob_mean", WINDOW), SignalRef("logprob_fall", WINDOW), SignalRef("logprob_mean")


def test_a_mean_is_unknown_until_its_window_is_full_and_then_follows_it() -> None:
    told = Logprobs([MEAN, ALL])
    mean, over_all = told.reader(MEAN), told.reader(ALL)
    assert math.isnan(over_all())
    told.add([-1.0] * 31)
    assert math.isnan(mean())
    told.add([-1.0])
    assert (mean(), over_all()) == (-1.0, -1.0)
    told.add([-3.0] * 32)
    assert (mean(), over_all()) == (-3.0, -2.0)


def test_a_fall_is_against_the_middle_of_what_has_left_the_window() -> None:
    told = Logprobs([MEAN, FALL])
    fall = told.reader(FALL)
    told.add([-1.0] * (32 + 3 * BLOCK - 1))
    assert math.isnan(fall())
    told.add([-1.0])
    assert fall() == 0.0
    told.add([-4.0] * 32)
    assert fall() == 3.0
    assert told.why(FALL) == "mean log-probability of the latest 32 tokens is -4.00, -1.00 before"
    told.add([-0.5] * 32)
    assert fall() == 0.0, "more likely than before is no fall"


def test_a_bad_stretch_that_leaves_the_window_does_not_become_the_measure_at_once() -> None:
    told = Logprobs([FALL])
    told.add([-1.0] * 112)
    told.add([-5.0] * 80)
    assert told.reader(FALL)() == 4.0


@pytest.mark.parametrize(
    ("value", "counts"), [(-9999.0, -LEAST), (-math.inf, -LEAST), (0.5, 0.0), (math.inf, 0.0), (-0.25, -0.25)]
)
def test_what_cannot_be_is_counted_as_the_nearest_that_can(value: float, counts: float) -> None:
    told = Logprobs([ALL])
    told.add([value])
    assert told.reader(ALL)() == counts


def test_no_number_takes_no_part() -> None:
    told = Logprobs([ALL])
    told.add([-2.0, math.nan, -4.0])
    assert told.reader(ALL)() == -3.0
    assert told.why(ALL) == "mean log-probability of the latest 2 tokens is -3.00"


def test_sums_stay_exact_over_a_long_stream() -> None:
    window = LogprobWindow(WINDOW, remember=True)
    for cost in range(100_000):
        window.add(cost % 20_000)
    for _ in range(32):
        window.add(1024)
    assert window.mean() == -1.0
