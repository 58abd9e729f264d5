"""Log-probabilities are read off chunks, whatever they hold."""

from __future__ import annotations

import json

import msgspec
import pytest

from guard.proto.openai import decode_chunk, sample_texts
from guard.signals.logprobs import LogprobAdapter, logprobs_of
from guard.signals.registry import adapter_for
from guard.types import Channel


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}, {"logprob": -2}]}, (-0.5, -2.0)),
        ({"tokens": ["a", "b"], "token_logprobs": [-1.25, None], "text_offset": [0, 1]}, (-1.25,)),
        ({"content": [{"logprob": None}, {"logprob": "-Infinity"}, {"token": "b"}, {"logprob": -9999.0}]}, (-9999.0,)),
        ({"content": None}, ()),
        ({"content": [{"logprob": [1]}]}, ()),
        ({"content": "words"}, ()),
        (None, ()),
        ([], ()),
    ],
)
def test_numbers_are_taken_and_the_rest_is_left(said: object, told: tuple[float, ...]) -> None:
    assert logprobs_of(raw(said)) == told


def test_broken_json_says_nothing() -> None:
    assert logprobs_of(msgspec.Raw(b'{"content":[{"logprob":NaN}]}')) == ()
    assert logprobs_of(msgspec.Raw()) == ()


def chunk(index: int, text: str, logprobs: object, ids: list[int]) -> dict[str, object]:
    return {"index": index, "delta": {"content": text}, "logprobs": logprobs, "token_ids": ids}


def test_each_choice_has_its_own_beside_what_the_engine_tells() -> None:
    adapter = LogprobAdapter(adapter_for("vllm", 3))
    assert adapter.switches() == adapter_for("vllm").switches()
    said = [chunk(0, "Hi", {"content": [{"logprob": -1.0}]}, [1]), chunk(1, "Ho", None, [2])]
    first, second = adapter.observe(decode_chunk(json.dumps({"choices": said}).encode()), sample_texts)
    assert (first.choice, first.texts, first.tokens, first.logprobs) == (0, ((Channel.CONTENT, "Hi"),), 1, (-1.0,))
    assert (second.choice, second.logprobs) == (1, ())
    assert adapter.finish() == []


def test_what_comes_without_text_is_kept() -> None:
    adapter = LogprobAdapter(adapter_for("text"))
    said = {"index": 2, "delta": {}, "logprobs": {"content": [{"logprob": -1.0}]}}
    (sample,) = adapter.observe(decode_chunk(json.dumps({"choices": [said]}).encode()), sample_texts)
    assert (sample.choice, sample.tokens, sample.texts, sample.logprobs) == (2, 0, (), (-1.0,))
