"""guard.lab.relay: tokens are counted however the bytes are cut."""

import json

import pytest

from guard.lab.relay import TokenCounter


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def timed(predicted: int) -> bytes:
    return event(choices=[], timings={"cache_n": 10, "prompt_n": 5, "predicted_n": predicted})


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_engines_own_count_is_used(size: int) -> None:
    stream = event(choices=[]) + timed(1) + timed(2) + timed(5) + b"data: [DONE]\n\n"
    counter = TokenCounter()
    for start in range(0, len(stream), size):
        counter.feed(stream[start : start + size])
    assert counter.tokens == 5
    assert counter.context_tokens == 20


def test_without_timings_each_event_is_a_token() -> None:
    counter = TokenCounter()
    counter.feed(event(content="a") + b": comment\n\n" + event(content="b") + b"data: [DONE]\n\n")
    assert counter.tokens == 2
    assert counter.context_tokens == 0


def test_what_is_not_json_does_not_stop_the_count() -> None:
    counter = TokenCounter()
    counter.feed(b"data: nonsense\n\n" + timed(3))
    assert counter.tokens == 3
