"""guard.lab.trace_plans_fifth: a fifth set that shares no prompt with the others."""

from __future__ import annotations

from pathlib import Path

from guard.lab.trace_labels import Half
from guard.lab.trace_plans import LATE_NUM_TOKENS, plans
from guard.lab.trace_plans_fifth import ANSWERED, LOOPING, fifth_plans
from guard.lab.trace_plans_fresh import fresh_plans
from guard.lab.trace_plans_later import later_plans
from guard.lab.traces import missing

MADE = fifth_plans()


def test_names_differ_and_no_prompt_is_that_of_another_set() -> None:
    before = [*plans(), *fresh_plans(), *later_plans()]
    assert len({plan.id for plan in (*MADE, *before)}) == len(MADE) + len(before)
    assert not {plan.prompt for plan in MADE} & {plan.prompt for plan in before}
    assert {plan.half for plan in MADE} == {Half.FIFTH}


def test_there_are_loops_healthy_answers_and_corruption() -> None:
    assert len(LOOPING) >= 40
    assert sum(negative is not None for _, _, negative in ANSWERED.values()) >= 12
    assert sum(plan.fault is not None for plan in MADE) == 6


def test_half_of_what_may_loop_goes_on_for_longer() -> None:
    assert sum(plan.num_tokens == LATE_NUM_TOKENS for plan in MADE) == len(LOOPING) // 2


def test_it_is_recorded_by_itself(tmp_path: Path) -> None:
    assert missing(tmp_path / "none.jsonl", "fifth") == MADE
