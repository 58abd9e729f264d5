"""The trace recorder's pure parts."""

from __future__ import annotations

from guard.lab.traces import Trace, chunks_of, labelled, plans
from guard.types import Channel, Sample, StepAcceptance


def sample(text: str, tokens: int, *steps: tuple[int, int]) -> Sample:
    made = tuple(StepAcceptance(a, d, a + 1, exact=True) for a, d in steps)
    return Sample(0, ((Channel.CONTENT, text),), tokens, made)


def test_a_step_takes_all_text_since_the_step_before() -> None:
    samples = [sample("a", 1), sample("b", 1), sample("c", 1, (2, 3)), sample("d", 1, (0, 3)), sample("e", 1)]
    assert chunks_of(samples) == [["abc", 3, 2, 3], ["d", 1, 0, 3], ["e", 1, 0, 0]]


def test_there_are_enough_plans_and_their_names_differ() -> None:
    made = list(plans())
    assert len(made) >= 120
    assert len({plan.id for plan in made}) == len(made)
    healthy = [plan for plan in made if plan.fault is None]
    assert {plan.temperature for plan in healthy} == {0.0, 0.7}
    assert len({plan.depth for plan in healthy}) >= 3
    assert {plan.fault.fault for plan in made if plan.fault} == {"noise", "zero_half", "shuffle", "splice"}


def test_labels_change_kind_and_onset_and_nothing_else() -> None:
    trace = Trace("a", "rescore_only", "noise", 3, 50, None, "p", 0.0, "llama.cpp", [["x", 1, 0, 3]])
    assert labelled(trace, {}) is trace
    assert labelled(trace, {"a": "garbled"}).first_bad_token == 50
    assert labelled(trace, {"a": ["repetition", 70]}).first_bad_token == 70
    assert labelled(trace, {"a": "healthy"}).first_bad_token is None
