"""Every adapter keeps the common promise."""

from __future__ import annotations

import pytest

from guard.signals.base import SignalAdapter
from guard.signals.registry import ENGINES, adapter_for
from guard.types import Channel, Sample
from guard.wire import Choice, Chunk


def texts(choice: Choice) -> tuple[tuple[Channel, str], ...]:
    return ((Channel.CONTENT, choice.text),) if choice.text else ()


@pytest.mark.parametrize("engine", ENGINES)
def test_text_without_any_count_is_one_token_and_silence_is_no_sample(engine: str) -> None:
    adapter: SignalAdapter = adapter_for(engine)
    assert adapter.observe(Chunk(), texts) == []
    assert adapter.observe(Chunk(choices=[Choice(text="")]), texts) == []
    assert adapter.observe(Chunk(choices=[Choice(index=2, text="hi")]), texts) == [
        Sample(2, ((Channel.CONTENT, "hi"),), 1)
    ]
    assert adapter.finish() == []
