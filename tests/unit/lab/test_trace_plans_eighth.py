"""guard.lab.trace_plans_eighth: an eighth set that shares no prompt with the others: a check, not much of anything."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from guard.lab.trace_labels import Half
from guard.lab.trace_plans import plans
from guard.lab.trace_plans_eighth import ANSWERED, CORRUPTIONS, LONG_NUM_TOKENS, LOOPING, SPOILED, eighth_plans
from guard.lab.trace_plans_fifth import fifth_plans
from guard.lab.trace_plans_fresh import fresh_plans
from guard.lab.trace_plans_later import later_plans
from guard.lab.trace_plans_seventh import seventh_plans
from guard.lab.trace_plans_sixth import sixth_plans
from guard.lab.traces import missing

MADE = eighth_plans()


def test_names_differ_and_no_prompt_is_that_of_another_set() -> None:
    before = [*plans(), *fresh_plans(), *later_plans(), *fifth_plans(), *sixth_plans(), *seventh_plans()]
    assert len({plan.id for plan in (*MADE, *before)}) == len(MADE) + len(before)
    assert not {plan.prompt for plan in MADE} & {plan.prompt for plan in before}
    assert {plan.half for plan in MADE} == {Half.EIGHTH}


def test_it_has_spoiled_caches_loops_and_answers() -> None:
    assert sum(plan.fault is not None for plan in MADE) == len(SPOILED) == 24
    assert {"noise", "zero_half", "shuffle", "splice"} == Counter(fault for fault, *_ in CORRUPTIONS).keys()
    assert {plan.temperature for plan in MADE if plan.fault is not None} == {0.0, 0.7, 1.0}
    assert sum(plan.fault is None for plan in MADE) == len(ANSWERED) + len(LOOPING)
    assert [plan.num_tokens for plan in MADE].count(LONG_NUM_TOKENS) == len(LOOPING)


def test_it_is_recorded_by_itself(tmp_path: Path) -> None:
    assert missing(tmp_path / "none.jsonl", "eighth") == MADE
