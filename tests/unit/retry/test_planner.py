"""The safety matrix, row by row."""

from __future__ import annotations

import pytest

from guard.retry.planner import Situation, Step, plan
from guard.types import WhenExhausted

CUT, PASS = WhenExhausted.CUT, WhenExhausted.PASS


def situation(made: int, *, released: bool, blocker: str, last: WhenExhausted, alive: bool = True) -> Situation:
    return Situation(made, 3, released, blocker, last, alive)


@pytest.mark.parametrize(
    ("case", "step"),
    [
        (situation(3, released=False, blocker="", last=CUT), Step.CUT),
        (situation(3, released=True, blocker="", last=PASS), Step.PASS),
        (situation(1, released=False, blocker="tools", last=CUT), Step.RESTART),
        (situation(2, released=True, blocker="", last=CUT), Step.RESUME),
        (situation(1, released=True, blocker="tools", last=CUT), Step.CUT),
        (situation(1, released=True, blocker="tools", last=PASS), Step.PASS),
        # A dead attempt cannot be let pass, whatever the policy wants.
        (situation(3, released=True, blocker="", last=PASS, alive=False), Step.CUT),
        (situation(1, released=True, blocker="tools", last=PASS, alive=False), Step.CUT),
    ],
)
def test_matrix(case: Situation, step: Step) -> None:
    assert plan(case).step is step


def test_the_reason_names_the_blocker() -> None:
    assert "tools are offered" in plan(situation(1, released=True, blocker="tools are offered", last=CUT)).reason
