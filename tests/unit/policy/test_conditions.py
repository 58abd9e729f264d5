"""Conditions, built and checked one by one; the complaints are in test_load."""

from __future__ import annotations

import math

import pytest

from guard.errors import ConfigError
from guard.policy.conditions import ConditionBuilder
from guard.policy.schema import All, Leaf, Not
from guard.policy.source import ConditionSource
from guard.types import SignalRef, SignalSpec, Unit, Window
from guard.yamldoc import Document

NOISE = SignalSpec("noise", 0, 1, "share", (Unit.CHARACTERS,), False, "How loud.")
BUILDER = ConditionBuilder(Document("when: x", "p.yaml"), {"noise": NOISE})


def test_a_step_and_a_slope() -> None:
    step = BUILDER.build(ConditionSource(signal="noise", window="8 characters", below=0.5), "when")
    ref = SignalRef("noise", Window(8, Unit.CHARACTERS))
    assert step == Leaf(signal=ref, zero=0.5, one=-math.inf, step=True)
    slope = BUILDER.build(ConditionSource(signal="noise", start=0.5, to=0.1, after="9 tokens"), "when")
    assert slope == Leaf(signal=SignalRef("noise"), zero=0.5, one=0.1, step=False, after=9)


def test_groups_nest() -> None:
    loud = ConditionSource(signal="noise", above=0.5)
    quiet = ConditionSource(negated=loud)
    built = BUILDER.build(ConditionSource(all=(loud, quiet)), "when")
    leaf = Leaf(signal=SignalRef("noise"), zero=0.5, one=math.inf, step=True)
    assert built == All((leaf, Not(leaf)))


def test_slopes_that_exclude_each_other_are_refused() -> None:
    rising = ConditionSource(signal="noise", start=0.6, to=0.8)
    falling = ConditionSource(signal="noise", start=0.5, to=0.2)
    with pytest.raises(ConfigError, match="can never hold"):
        BUILDER.build(ConditionSource(all=(rising, falling)), "when")


def test_slopes_that_overlap_are_not() -> None:
    rising = ConditionSource(signal="noise", start=0.2, to=0.8)
    falling = ConditionSource(signal="noise", start=0.9, to=0.3)
    assert isinstance(BUILDER.build(ConditionSource(all=(rising, falling)), "when"), All)


def test_a_signal_that_is_read_over_a_window_only_is_refused_without() -> None:
    told = SignalSpec("told", 0, 1, "nats", (Unit.TOKENS,), False, "How likely.", needs_window=True)
    builder = ConditionBuilder(Document("when: x", "p.yaml"), {"told": told})
    with pytest.raises(ConfigError, match="told is read over a window; write 'window: 64 tokens'"):
        builder.build(ConditionSource(signal="told", above=0.5), "when")
