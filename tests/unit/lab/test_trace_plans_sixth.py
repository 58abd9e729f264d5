"""guard.lab.trace_plans_sixth: a sixth set that shares no prompt with the others, and runs on for longer."""

from __future__ import annotations

from pathlib import Path

from guard.lab.trace_labels import Half
from guard.lab.trace_plans import NUM_TOKENS, plans
from guard.lab.trace_plans_fifth import fifth_plans
from guard.lab.trace_plans_fresh import fresh_plans
from guard.lab.trace_plans_later import later_plans
from guard.lab.trace_plans_sixth import ANSWERED, LONG_NUM_TOKENS, LOOPING, sixth_plans
from guard.lab.traces import missing

MADE = sixth_plans()


def test_names_differ_and_no_prompt_is_that_of_another_set() -> None:
    before = [*plans(), *fresh_plans(), *later_plans(), *fifth_plans()]
    assert len({plan.id for plan in (*MADE, *before)}) == len(MADE) + len(before)
    assert not {plan.prompt for plan in MADE} & {plan.prompt for plan in before}
    assert {plan.half for plan in MADE} == {Half.SIXTH}


def test_there_are_loops_healthy_answers_and_corruption() -> None:
    assert len(LOOPING) >= 16
    assert sum(negative is not None for _, _, negative in ANSWERED.values()) >= 8
    assert sum(plan.fault is not None for plan in MADE) == 4


def test_what_may_loop_goes_on_for_longer_than_any_before() -> None:
    assert [plan.num_tokens for plan in MADE].count(LONG_NUM_TOKENS) == len(LOOPING)
    assert LONG_NUM_TOKENS > 2 * NUM_TOKENS


def test_it_is_recorded_by_itself(tmp_path: Path) -> None:
    assert missing(tmp_path / "none.jsonl", "sixth") == MADE
