"""Readings of log-probabilities: whatever the numbers and however they are cut."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from guard.detect.told import bank_for
from guard.types import Sample, SignalRef, Unit, Window

REFS = (
    SignalRef("logprob_mean"),
    SignalRef("logprob_mean", Window(5, Unit.TOKENS)),
    SignalRef("logprob_mean", Window(20, Unit.TOKENS)),
    SignalRef("logprob_fall", Window(20, Unit.TOKENS)),
)
VALUES = st.lists(st.floats(-30, 1) | st.floats(), max_size=200)


def same(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right))


@given(VALUES, st.lists(st.integers(0, 200), max_size=20))
def test_readings_stay_in_range_and_do_not_depend_on_how_a_stream_is_cut(values: list[float], cuts: list[int]) -> None:
    whole, pieces = bank_for(REFS, told=True), bank_for(REFS, told=True)
    whole.observe(Sample(0, (), len(values), (), tuple(values)))
    borders = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    for start, end in pairwise(borders):
        pieces.observe(Sample(0, (), end - start, (), tuple(values[start:end])))
        for ref in REFS:
            reading = pieces.read(ref)
            assert math.isnan(reading) or (-20 <= reading <= 0 if ref.name == "logprob_mean" else 0 <= reading <= 20)
    for ref in REFS:
        assert same(whole.read(ref), pieces.read(ref))
        assert whole.finding(ref).reason == pieces.finding(ref).reason


@given(VALUES)
def test_a_mean_is_what_it_says(values: list[float]) -> None:
    bank = bank_for(REFS, told=True)
    bank.observe(Sample(0, (), len(values), (), tuple(values)))
    counted = [min(max(value, -20.0), 0.0) for value in values if not math.isnan(value)]
    for ref in REFS[:3]:
        size = ref.window.size if ref.window is not None else max(len(counted), 1)
        latest = counted[-size:]
        if len(latest) < size:
            assert math.isnan(bank.read(ref))
        else:
            assert abs(bank.read(ref) - sum(latest) / size) < 1 / 1024
