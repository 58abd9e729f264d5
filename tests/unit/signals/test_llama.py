"""llama.cpp's cumulative counters, differenced."""

from __future__ import annotations

from guard.signals.llama import LlamaAdapter
from guard.types import Channel, Sample, StepAcceptance
from guard.wire import Choice, Chunk, Timings


def texts(choice: Choice) -> tuple[tuple[Channel, str], ...]:
    return ((Channel.CONTENT, choice.text),) if choice.text else ()


def chunk(text: str, predicted: int, drafted: int = 0, accepted: int = 0, index: int = 0) -> Chunk:
    return Chunk(choices=[Choice(index=index, text=text)], timings=Timings(predicted, drafted, accepted))


def closing(predicted: int, drafted: int = 0, accepted: int = 0) -> Chunk:
    return Chunk(timings=Timings(predicted, drafted, accepted))


def seen(adapter: LlamaAdapter, *chunks: Chunk) -> list[tuple[int, list[tuple[int, int, int, bool]]]]:
    """Tokens and steps of each sample."""
    samples: list[Sample] = [sample for each in chunks for sample in adapter.observe(each, texts)]
    return [
        (sample.tokens, [(step.accepted, step.drafted, step.tokens, step.exact) for step in sample.steps])
        for sample in samples
    ]


def test_a_step_is_told_with_its_first_token_and_once() -> None:
    assert seen(
        LlamaAdapter(),
        chunk("The", 1),
        chunk(" bicycle", 2, 3, 1),
        chunk("'s", 3, 3, 1),
        chunk(" upright", 4, 6, 1),
        chunk(" is", 5, 9, 3),
        chunk(" a", 6, 9, 3),
        chunk(" thing", 7, 9, 3),
        chunk(".", 8, 12, 3),
    ) == [
        (1, []),
        (1, [(1, 3, 2, True)]),
        (1, []),
        (1, [(0, 3, 1, True)]),
        (1, [(2, 3, 3, True)]),
        (1, []),
        (1, []),
        (1, [(0, 3, 1, True)]),
    ]


def test_the_step_behind_the_end_of_text_shows_in_the_closing_chunk() -> None:
    end = Chunk(choices=[Choice(finish_reason="stop")], timings=Timings(12, 18, 5))
    assert seen(LlamaAdapter(), chunk("x", 11, 15, 5), end, closing(12, 18, 5))[1:] == [(1, [(0, 3, 1, True)])]
    assert seen(LlamaAdapter(), chunk("x", 1), closing(2, 3, 0)) == [(1, []), (1, [(0, 3, 1, True)])]


def test_a_closing_chunk_is_of_the_choice_that_ended_last() -> None:
    adapter = LlamaAdapter()
    seen(adapter, chunk("a", 1, index=0), chunk("b", 1, index=1))
    (sample,) = adapter.observe(closing(2, 3, 1), texts)
    assert (sample.choice, sample.steps) == (1, (StepAcceptance(1, 3, 2, True),))


def test_each_choice_has_counters_of_its_own() -> None:
    assert seen(
        LlamaAdapter(),
        chunk("a", 1, index=0),
        chunk("b", 1, index=1),
        chunk("c", 2, 3, 2, index=0),
        chunk("d", 2, 3, 0, index=1),
    ) == [(1, []), (1, []), (1, [(2, 3, 3, True)]), (1, [(0, 3, 1, True)])]


def test_tokens_without_a_draft_are_told_once_drafting_was_seen() -> None:
    assert seen(LlamaAdapter(), chunk("a", 1), chunk("b", 2), chunk("c", 3)) == [(1, []), (1, []), (1, [])]
    assert seen(LlamaAdapter(), chunk("a", 1), chunk("b", 2, 3, 0), chunk("c", 3, 3, 0)) == [
        (1, []),
        (1, [(0, 3, 1, True)]),
        (1, [(0, 0, 1, True)]),
    ]


def test_a_step_whose_first_tokens_had_no_text_yet_is_still_one_exact_step() -> None:
    assert seen(LlamaAdapter(), chunk("a", 1), chunk("\N{PARTY POPPER}", 4, 3, 2)) == [
        (1, []),
        (3, [(2, 3, 3, True)]),
    ]


def test_steps_that_came_at_once_are_told_apart_by_tokens() -> None:
    (_, merged) = seen(LlamaAdapter(), chunk("a", 1), chunk("b", 5, 6, 2))
    assert merged == (4, [(1, 3, 2, False), (1, 3, 2, False)])


def test_steps_that_came_at_once_are_told_apart_by_depth() -> None:
    (*_, merged) = seen(LlamaAdapter(), chunk("a", 1), chunk("b", 2, 3, 0), chunk("c", 7, 9, 5))
    assert merged == (5, [(2, 3, 3, False), (3, 3, 4, False)])


def test_counters_that_go_back_start_over_without_a_step() -> None:
    assert seen(LlamaAdapter(), chunk("a", 50, 30, 20), chunk("b", 3, 3, 1), chunk("c", 4, 6, 1))[1:] == [
        (1, []),
        (1, [(0, 3, 1, True)]),
    ]


def test_counters_that_jump_are_none_of_an_answer() -> None:
    """Each step told is an object: a number out of nowhere must not become that many."""
    huge = 10**30
    assert seen(LlamaAdapter(), chunk("a", 2, 3, 1), chunk("b", huge, 3, 1), chunk("c", huge + 1, 6, 1))[1:] == [
        (1, []),
        (1, [(0, 3, 1, True)]),
    ]
    assert seen(LlamaAdapter(), chunk("a", 2, 3, 1), chunk("b", 3, huge, 1), chunk("c", 4, huge + 3, 1))[1:] == [
        (1, []),
        (1, [(0, 3, 1, True)]),
    ]


def test_chunks_without_counters_count_their_text() -> None:
    role = Chunk(choices=[Choice(text="")])
    plain = Chunk(choices=[Choice(text="a")])
    assert seen(LlamaAdapter(), role, plain, Chunk()) == [(1, [])]


def test_a_token_without_text_is_counted() -> None:
    assert seen(LlamaAdapter(), chunk("a", 1), chunk("", 2), chunk("", 2)) == [(1, []), (1, [])]
