"""vLLM's own verdict, by the policy's rules."""

from __future__ import annotations

import msgspec
import pytest

from guard.core.engine_verdict import engine_verdict
from guard.types import Action, Kind
from tests.unit.core.transcript import policy, rule


@pytest.mark.parametrize(
    ("actions", "does"),
    [
        ((), Action.NOTE),
        ((Action.HOLD,), Action.NOTE),
        ((Action.NOTE,), Action.NOTE),
        ((Action.HOLD, Action.NOTE), Action.NOTE),
        ((Action.NOTE, Action.RETRY), Action.RETRY),
        ((Action.CUT,), Action.CUT),
    ],
)
def test_it_is_acted_on_as_the_strictest_rule_on_repetition(actions: tuple[Action, ...], does: Action) -> None:
    rules = tuple(msgspec.structs.replace(rule(action), kind=Kind.REPETITION) for action in actions)
    judged = msgspec.structs.replace(policy(), rules=(*policy().rules, *rules))
    verdict = engine_verdict(judged, 1, 40, 0.25)
    assert (verdict.action, verdict.kind, verdict.rule) == (does, Kind.REPETITION, "engine")
    assert (verdict.choice, verdict.token, verdict.suspicion) == (1, 40, 0.25)
    assert "repetition" in verdict.reason
