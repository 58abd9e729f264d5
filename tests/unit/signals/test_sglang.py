"""SGLang: counts only."""

from __future__ import annotations

from guard.signals.sglang import SglangAdapter
from guard.types import Channel
from guard.wire import Choice, Chunk, Usage


def texts(choice: Choice) -> tuple[tuple[Channel, str], ...]:
    return ((Channel.CONTENT, choice.text),) if choice.text else ()


def test_a_chunk_of_several_tokens_is_counted_by_its_usage_and_is_no_step() -> None:
    adapter = SglangAdapter()
    samples = [
        sample
        for text, done in (("a", 1), ("bcd", 4))
        for sample in adapter.observe(Chunk(choices=[Choice(text=text)], usage=Usage(completion_tokens=done)), texts)
    ]
    assert [(sample.tokens, sample.steps) for sample in samples] == [(1, ()), (3, ())]
