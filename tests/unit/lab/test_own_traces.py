"""The project's own traces in tests/data/traces: all labelled, none in two sets, and as many as claimed."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from pathlib import Path

import pytest

from guard.lab.cases import Case, CaseKind, read_cases, run_case
from guard.lab.trace_labels import HALVES, Half, half_of, labelled, read_labels, read_traces
from guard.lab.trace_lengthen import LEAST_AFTER, length, too_short
from guard.lab.traces import SETS
from guard.policy.judge import Judge
from guard.shipped import find_policy

FOLDER = Path(__file__).parents[2] / "data" / "traces"
LABELS = {name: label for name, label in read_labels(FOLDER / "LABELS.yaml").items() if label is not None}
FILES = {half: FOLDER / f"{half}.jsonl.gz" for half in Half}
CASES: dict[Half, list[Case]] = {half: list(read_cases(file)) for half, file in FILES.items()}
ALL = [case for cases in CASES.values() for case in cases]

LEAST_TRACES = 120
LENGTHENED = 126
MOST_BYTES = 1_500_000


def test_there_are_enough() -> None:
    assert len(ALL) >= LEAST_TRACES
    assert len({case.id for case in ALL}) == len(ALL)


def test_every_trace_has_a_label_and_every_label_a_trace() -> None:
    assert {case.id for case in ALL} == LABELS.keys()


@pytest.mark.parametrize("half", list(Half))
def test_the_traces_carry_what_the_labels_say(half: Half) -> None:
    for trace in read_traces(FILES[half]):
        assert labelled(trace, LABELS[trace.id]) == trace


@pytest.mark.parametrize("half", list(Half))
def test_each_trace_is_where_it_belongs(half: Half) -> None:
    assert {trace.half for trace in read_traces(FILES[half])} == {half}
    if half in HALVES:
        assert {half_of(case.prompt) for case in CASES[half]} == {half}


def test_no_prompt_is_in_two_sets() -> None:
    prompts = [{case.prompt for case in cases} for cases in CASES.values()]
    assert sum(map(len, prompts)) == len(set[str]().union(*prompts))


@pytest.mark.parametrize("half", list(Half))
def test_each_set_has_garble_loops_what_only_rescoring_tells_and_healthy_text(half: Half) -> None:
    kinds = Counter(case.kind for case in CASES[half])
    for kind in (CaseKind.HEALTHY, CaseKind.GARBLED, CaseKind.REPETITION):
        assert kinds[kind] >= 4, kinds
    assert kinds[CaseKind.RESCORE_ONLY] >= (3 if half in (*HALVES, Half.FRESH) else 0)


def test_the_third_set_has_enough_of_what_rules_must_find_and_leave_alone() -> None:
    kinds = Counter(case.kind for case in CASES[Half.FRESH])
    assert kinds[CaseKind.REPETITION] >= 24
    assert kinds[CaseKind.HEALTHY] >= 24
    assert {case.num_speculative_tokens for case in CASES[Half.FRESH]} == {2, 3, 4, 5}


def test_the_fifth_set_has_enough_of_what_rules_must_find_and_leave_alone() -> None:
    kinds = Counter(case.kind for case in CASES[Half.FIFTH])
    assert kinds[CaseKind.REPETITION] >= 30
    assert kinds[CaseKind.HEALTHY] >= 20


def test_the_seventh_set_has_as_much_garbled_text_as_all_before_it() -> None:
    assert sum(case.kind is CaseKind.GARBLED for case in CASES[Half.SEVENTH]) >= 37


def test_the_sixth_set_goes_on_for_longer() -> None:
    loops = [case for case in CASES[Half.SIXTH] if case.kind is CaseKind.REPETITION]
    assert sum(case.tokens >= 480 for case in loops) >= 10


@pytest.mark.parametrize("half", HALVES)
def test_each_half_has_every_depth_and_temperature(half: Half) -> None:
    assert {case.num_speculative_tokens for case in CASES[half]} == {2, 3, 5}
    assert {case.temperature for case in CASES[half]} == {0.0, 0.7, 1.0}


def test_a_spoiled_draft_lowers_acceptance_and_is_healthy() -> None:
    mine = [trace for file in FILES.values() for trace in read_traces(file) if trace.subkind == "draft_only"]
    assert len(mine) >= 6
    for trace in mine:
        assert trace.injected_at is not None
        after, tokens = [], 0
        for _, count, accepted, drafted in trace.chunks:
            if tokens > trace.injected_at + 8 and int(drafted):
                after.append(int(accepted))
            tokens += int(count)
        assert 1 + sum(after) / len(after) < 1.4, trace.id


def test_every_onset_is_within_its_trace() -> None:
    for case in ALL:
        assert case.first_bad_token is None or case.first_bad_token < case.tokens


def test_a_loop_goes_on_for_long_enough_to_be_found_unless_the_model_ends_it() -> None:
    assert not too_short(trace for file in FILES.values() for trace in read_traces(file))


def test_what_goes_on_does_so_where_the_recording_ended() -> None:
    limits = {plan.id: plan.num_tokens for made in SETS.values() for plan in made()}
    longer = [trace for file in FILES.values() for trace in read_traces(file) if trace.continued_at is not None]
    assert len(longer) == LENGTHENED
    for trace in longer:
        assert trace.continued_at == limits[trace.id]
        assert trace.first_bad_token is not None
        assert trace.first_bad_token < trace.continued_at < length(trace) <= trace.first_bad_token + LEAST_AFTER
        ends = list(accumulate(int(count) for _, count, *_ in trace.chunks))
        assert trace.continued_at in ends


def test_the_files_are_small_and_stand_outside_the_package() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < MOST_BYTES
    assert "guard" not in FOLDER.relative_to(Path(__file__).parents[3]).parts


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("later-loop-menu-soups-t0-k3", {"same-item"}),
        ("later-loop-recipes-t0-k3", {"same-item"}),
        ("later-loop-routes-t0-k3", {"cycle"}),
        ("fresh-loop-menu-t0-k2", {"same-item"}),
        ("fresh-prices-t0.2-k3", {"same-item"}),
        ("fifth-csv-stock-t0.6-k3", {"same-item"}),
        ("fifth-html-list-t0.6-k3", {"same-item"}),
        ("later-shopping-t0.7-k3", {"same-again"}),
        ("later-zero_half-all-at90-umbrella", {"same-again"}),
        ("fresh-loop-faq-t0-k2", {"circling", "going-round"}),
        ("fresh-loop-css-t0-k2", {"flood"}),
        ("fresh-loop-log-t0-k5", {"same-figures"}),
        ("fresh-emoji-t0.2-k5", {"flood"}),
        ("fresh-loop-prayer-t0.6-k5", {"counting-in-words"}),
        ("fresh-splice-all-at110-history-tea", {"counting"}),
        ("fifth-loop-json-config-t0-k3", {"nested-again"}),
        ("fifth-seven-table-t0.6-k3", {"same-item"}),
        ("sixth-loop-enum-t0.4-k3", {"same-item"}),
        ("shuffle-all-at0-python-t0-k3", {"said-twice"}),
    ],
)
def test_what_was_learnt_of_the_sets_is_found(name: str, rules: set[str]) -> None:
    (case,) = (case for case in ALL if case.id == name)
    result = run_case(Judge(find_policy("default")), case)
    assert result.acted
    assert result.rule in rules
