"""guard.lab.trace_plans_later: a fourth set that shares no prompt with the others."""

from __future__ import annotations

from pathlib import Path

from guard.lab.trace_labels import Half
from guard.lab.trace_plans import plans
from guard.lab.trace_plans_fresh import fresh_plans
from guard.lab.trace_plans_later import ANSWERED, LOOPING, later_plans
from guard.lab.traces import missing

MADE = later_plans()


def test_names_differ_and_no_prompt_is_that_of_another_set() -> None:
    before = [*plans(), *fresh_plans()]
    assert len({plan.id for plan in (*MADE, *before)}) == len(MADE) + len(before)
    assert not {plan.prompt for plan in MADE} & {plan.prompt for plan in before}
    assert {plan.half for plan in MADE} == {Half.LATER}


def test_there_are_loops_healthy_answers_and_corruption() -> None:
    assert len(LOOPING) >= 24
    assert sum(negative is not None for _, _, negative in ANSWERED.values()) >= 8
    assert sum(plan.fault is not None for plan in MADE) == 6


def test_it_is_recorded_by_itself(tmp_path: Path) -> None:
    assert missing(tmp_path / "none.jsonl", "later") == MADE
