"""vLLM's steps, exact with the plugin and inferred without."""

from __future__ import annotations

import pytest

from guard.signals.vllm import VllmAdapter
from guard.types import Channel, Sample
from guard.wire import Choice, Chunk, Metrics, SpeculativeDecoding


def texts(choice: Choice) -> tuple[tuple[Channel, str], ...]:
    return ((Channel.CONTENT, choice.text),) if choice.text else ()


def chunk(
    tokens: int | None,
    steps: list[tuple[int, int]] | None = None,
    finish: str | None = None,
    index: int = 0,
) -> Chunk:
    ids = None if tokens is None else [7] * tokens
    metrics = None
    if steps is not None:
        metrics = Metrics(SpeculativeDecoding([a for a, _ in steps], [d for _, d in steps]))
    choice = Choice(index=index, text="x", finish_reason=finish, token_ids=ids)
    return Chunk(choices=[choice], metrics=metrics)


def seen(adapter: VllmAdapter, *chunks: Chunk) -> list[tuple[int, list[tuple[int, int, int, bool]]]]:
    """Tokens and steps of each sample."""
    samples: list[Sample] = [sample for each in chunks for sample in adapter.observe(each, texts)]
    return [
        (sample.tokens, [(step.accepted, step.drafted, step.tokens, step.exact) for step in sample.steps])
        for sample in samples
    ]


def test_the_plugins_steps_are_exact_and_may_be_several() -> None:
    assert seen(VllmAdapter(), chunk(1, [(0, 0)]), chunk(4, [(3, 3)]), chunk(3, [(0, 3), (1, 3)])) == [
        (1, [(0, 0, 1, True)]),
        (4, [(3, 3, 4, True)]),
        (3, [(0, 3, 1, True), (1, 3, 2, True)]),
    ]


def test_the_last_step_emits_no_more_than_its_chunk_holds() -> None:
    assert seen(VllmAdapter(), chunk(3, [(0, 3), (3, 3)], "length")) == [(3, [(0, 3, 1, True), (3, 3, 2, True)])]


def test_the_plugins_steps_count_the_tokens_where_there_are_no_ids() -> None:
    assert seen(VllmAdapter(), chunk(None, [(2, 3), (0, 3)])) == [(4, [(2, 3, 3, True), (0, 3, 1, True)])]


def test_a_draft_depth_that_is_missing_is_unknown() -> None:
    metrics = Metrics(SpeculativeDecoding([1], None))
    assert seen(VllmAdapter(), Chunk(choices=[Choice(text="x", token_ids=[1, 2])], metrics=metrics)) == [
        (2, [(1, -1, 2, True)])
    ]


@pytest.mark.parametrize("absurd", [2**31, 2**64, 10**400, -(10**400)])
def test_a_step_whose_counts_are_none_is_left_out(absurd: int) -> None:
    assert seen(VllmAdapter(), chunk(2, [(absurd, 3)]), chunk(2, [(1, absurd)]), chunk(None, [(absurd, 3)])) == [
        (2, []),
        (2, []),
        (0, []),
    ]
    assert seen(VllmAdapter(), chunk(3, [(absurd, 3), (2, 3)]), chunk(None, [(1, 3), (1, absurd), (0, 3)])) == [
        (3, [(2, 3, 3, True)]),
        (3, [(1, 3, 2, True), (0, 3, 1, True)]),
    ]


def test_vllms_totals_in_the_closing_chunk_are_not_counted_again() -> None:
    totals = Chunk(metrics=Metrics(SpeculativeDecoding([3, 3], [3, 3])))
    assert seen(VllmAdapter(), totals) == []


def test_with_the_plugin_nothing_is_inferred() -> None:
    assert seen(VllmAdapter(3), chunk(1, [(0, 0)]), chunk(3)) == [(1, [(0, 0, 1, True)]), (3, [])]


def test_without_it_a_chunk_is_one_step_of_unknown_depth() -> None:
    assert seen(VllmAdapter(3), chunk(1), chunk(3), chunk(1), chunk(4)) == [
        (1, []),
        (3, [(2, -1, 3, False)]),
        (1, [(0, -1, 1, False)]),
        (4, [(3, -1, 4, False)]),
    ]


def test_the_prefills_token_is_no_part_of_a_step_that_came_with_it() -> None:
    assert seen(VllmAdapter(3), chunk(3)) == [(3, [(1, -1, 2, False)])]


def test_more_tokens_than_one_step_can_emit_are_a_merge_and_no_step() -> None:
    assert seen(VllmAdapter(3), chunk(1), chunk(5)) == [(1, []), (5, [])]
    assert seen(VllmAdapter(), chunk(1), chunk(5)) == [(1, []), (5, [(4, -1, 5, False)])]


def test_the_last_step_is_cut_and_tells_nothing() -> None:
    assert seen(VllmAdapter(3), chunk(1), chunk(2, finish="length")) == [(1, []), (2, [])]


def test_single_tokens_are_steps_only_where_speculation_is_known_to_run() -> None:
    unknown = VllmAdapter()
    assert seen(unknown, chunk(1), chunk(1), chunk(1)) == [(1, []), (1, []), (1, [])]
    assert seen(unknown, chunk(2), chunk(1)) == [(2, [(1, -1, 2, False)]), (1, [(0, -1, 1, False)])]


def test_each_choice_has_a_prefill_of_its_own() -> None:
    assert seen(VllmAdapter(3), chunk(1), chunk(1, index=1), chunk(2, index=1)) == [
        (1, []),
        (1, []),
        (2, [(1, -1, 2, False)]),
    ]


def test_chunks_without_token_ids_count_their_text() -> None:
    assert seen(VllmAdapter(3), chunk(None), chunk(None)) == [(1, []), (1, [])]


def test_a_chunk_that_holds_no_new_token_is_no_step() -> None:
    assert seen(VllmAdapter(3), chunk(1), chunk(0)) == [(1, []), (0, [])]
