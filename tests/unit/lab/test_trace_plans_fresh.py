"""guard.lab.trace_plans_fresh: a third set that shares no prompt with the first two."""

from __future__ import annotations

from pathlib import Path

from guard.lab.trace_labels import Half
from guard.lab.trace_plans import plans
from guard.lab.trace_plans_fresh import ANSWERED, DEPTHS, LOOPING, fresh_plans
from guard.lab.traces import missing

MADE = fresh_plans()


def test_names_differ_and_no_prompt_is_that_of_another_set() -> None:
    before = plans()
    assert len({plan.id for plan in (*MADE, *before)}) == len(MADE) + len(before)
    assert not {plan.prompt for plan in MADE} & {plan.prompt for plan in before}
    assert {plan.half for plan in MADE} == {Half.FRESH}


def test_there_are_loops_healthy_answers_corruption_and_spoiled_drafts() -> None:
    assert len(LOOPING) >= 24
    assert len(ANSWERED) >= 24
    assert sum(plan.fault is not None for plan in MADE) == 12
    assert sum(plan.draft_onset is not None for plan in MADE) == 4
    assert {plan.depth for plan in MADE} == set(DEPTHS)
    assert len({plan.temperature for plan in MADE}) >= 6


def test_it_is_recorded_by_itself(tmp_path: Path) -> None:
    assert missing(tmp_path / "none.jsonl", "fresh") == MADE
    assert missing(tmp_path / "none.jsonl") == plans()
