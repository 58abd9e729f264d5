"""The catalogue, and its table in the documentation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from guard.detect.catalogue import CATALOGUE, markdown_table
from guard.detect.told import bank_for
from guard.types import Channel, Sample, SignalRef, StepAcceptance, Window

README = Path(__file__).parents[3] / "policies" / "README.md"


def test_the_readme_shows_the_catalogue() -> None:
    assert markdown_table() in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_signal_can_be_read_with_each_of_its_windows_and_stays_in_range(name: str) -> None:
    spec = CATALOGUE[name]
    refs = [SignalRef(name), *(SignalRef(name, Window(32, unit)) for unit in spec.window_units)]
    bank = bank_for(refs, told=spec.needs_logprobs)
    for index in range(200):
        step = StepAcceptance(accepted=index % 3, drafted=3, tokens=index % 3 + 1, exact=True)
        told = (-0.1, -index / 4, -9999.0)[: index % 3 + 1]
        bank.observe(Sample(0, ((Channel.CONTENT, f"word{index} \ufffd ж漢 "),), index % 3 + 1, (step,), told))
        for ref in refs:
            value = bank.read(ref)
            assert math.isnan(value) or spec.low <= value <= spec.high
    for ref in refs:
        assert bank.finding(ref).reason
