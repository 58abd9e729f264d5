"""The shared vocabulary."""

from __future__ import annotations

import pytest

from guard.types import Action, Finding, SignalRef, Unit, Verdict, Window


def test_signals_read_as_people_write_them() -> None:
    assert str(SignalRef("acceptance_rate", Window(48, Unit.TOKENS))) == "acceptance_rate over 48 tokens"
    assert str(SignalRef("tokens")) == "tokens"


def test_actions_are_ordered_mildest_first() -> None:
    assert list(Action) == [Action.PASS, Action.HOLD, Action.NOTE, Action.CUT, Action.RETRY]


def test_the_reason_joins_all_findings() -> None:
    findings = (Finding(SignalRef("a"), 1.0, 0, "one"), Finding(SignalRef("b"), 1.0, 0, "two"))
    assert Verdict(Action.CUT, 1.0, findings=findings).reason == "one; two"


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Verdict(Action.CUT, 1.0).action = Action.PASS  # type: ignore[misc]
