"""guard.lab.trace_plans: what is recorded covers what it should."""

from __future__ import annotations

from collections import Counter

from guard.lab.kv_state import FAULTS
from guard.lab.trace_labels import HALVES, Half, half_of
from guard.lab.trace_plans import DEPTHS, LATE, TASKS, TEMPERATURES, plans

MADE = plans()
CORRUPTED = [plan for plan in MADE if plan.fault is not None]


def test_names_differ_and_there_are_enough() -> None:
    assert len({plan.id for plan in MADE}) == len(MADE) >= 160


def test_every_depth_and_temperature_is_recorded_with_and_without_corruption() -> None:
    every = {(depth, temperature) for depth in DEPTHS for temperature in TEMPERATURES}
    assert {(plan.depth, plan.temperature) for plan in CORRUPTED} == every
    assert {(plan.depth, plan.temperature) for plan in MADE if plan.fault is None} == every


def test_every_kind_of_corruption_is_recorded_early_late_and_in_several_strengths() -> None:
    for fault in FAULTS:
        mine = [plan.fault for plan in CORRUPTED if plan.fault is not None and plan.fault.fault == fault]
        assert min(plan.onset_token for plan in mine) == 0
        assert any(10 <= plan.onset_token <= 20 for plan in mine)
        assert any(plan.onset_token >= LATE for plan in mine)
        assert len({plan.num_rows for plan in mine}) >= 3


def test_both_halves_have_the_same_corruption_over_other_prompts() -> None:
    done = {half: Counter() for half in HALVES}
    for plan in CORRUPTED:
        assert plan.fault is not None
        done[half_of(plan.prompt)][plan.fault.fault, plan.fault.onset_token, plan.fault.num_rows] += 1
    assert done[Half.TUNING] == done[Half.UNSEEN]


def test_the_draft_is_spoiled_in_both_halves_and_at_every_depth() -> None:
    mine = [plan for plan in MADE if plan.draft_onset is not None]
    assert {half_of(plan.prompt) for plan in mine} == set(HALVES)
    assert {plan.depth for plan in mine} == set(DEPTHS)
    assert all(plan.subkind == "draft_only" and plan.hard_negative == "low_accept" for plan in mine)


def test_tasks_are_of_many_sorts() -> None:
    assert len({task.sort for task in TASKS.values()}) >= 12
