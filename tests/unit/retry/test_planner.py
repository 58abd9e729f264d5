"""The safety matrix: every situation has one answer, and the documentation has the tables as they are."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from guard.retry.planner import LAST_RESORT, MATRIX, Situation, Step, matrix_table, plan
from guard.types import WhenExhausted

CUT, PASS, BEST = WhenExhausted.CUT, WhenExhausted.PASS, WhenExhausted.BEST


def situation(
    made: int,
    *,
    released: bool,
    blocker: str,
    last: WhenExhausted,
    alive: bool = True,
    refused: str = "",
    best: bool = False,
) -> Situation:
    return Situation(made, 3, released, blocker, last, alive, refused, best)


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
        # The budget comes before all that it could be spent on.
        (situation(1, released=False, blocker="", last=CUT, refused="used up"), Step.CUT),
        (situation(1, released=True, blocker="", last=PASS, refused="used up", alive=False), Step.CUT),
        (situation(1, released=True, blocker="", last=BEST, refused="used up", best=True), Step.BEST),
        (situation(3, released=True, blocker="", last=BEST, best=True, alive=False), Step.BEST),
        (situation(3, released=True, blocker="", last=BEST), Step.CUT),
        (situation(1, released=False, blocker="", last=BEST, best=True), Step.RESTART),
    ],
)
def test_matrix(case: Situation, step: Step) -> None:
    assert plan(case).step is step


def test_the_reason_names_the_blocker() -> None:
    assert "tools are offered" in plan(situation(1, released=True, blocker="tools are offered", last=CUT)).reason
    assert plan(situation(1, released=True, blocker="", last=CUT, refused="used up")).reason == "used up"
    assert plan(situation(3, released=True, blocker="", last=CUT)).reason == "all 3 attempts used"


def test_no_situation_is_without_an_answer_and_none_retries_past_its_bounds() -> None:
    flags = (False, True)
    for made, released, blocker, last, alive, refused, best in itertools.product(
        (1, 2, 3, 4), flags, ("", "tools"), WhenExhausted, flags, ("", "used up"), flags
    ):
        case = situation(made, released=released, blocker=blocker, last=last, alive=alive, refused=refused, best=best)
        step = plan(case).step
        if step in (Step.RESTART, Step.RESUME):
            assert made < 3
            assert not refused
        assert step is not Step.RESTART or not released
        assert step is not Step.RESUME or (released and not blocker)
        assert step is not Step.PASS or alive
        assert step is not Step.BEST or best


def test_every_row_decides_something() -> None:
    assert len(set(MATRIX)) == len(MATRIX)
    assert len(set(LAST_RESORT)) == len(LAST_RESORT)


def test_the_documentation_has_the_tables() -> None:
    readme = Path(__file__).parents[3] / "guard" / "README.md"
    assert matrix_table() in readme.read_text(encoding="utf-8")
