"""The chunks that all families' events are read into."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.errors import ProtocolError
from guard.proto.chunks import decode_chunk, is_done, sample_texts
from guard.types import Channel


def texts(**choice: Any) -> tuple[tuple[Channel, str], ...]:
    (decoded,) = decode_chunk(json.dumps({"choices": [{"index": 0, **choice}]}).encode()).choices
    return sample_texts(decoded)


def test_a_chunk_is_decoded_and_unknown_fields_are_skipped() -> None:
    chunk = decode_chunk(b'{"id":"x","future":{"a":[1]},"choices":[{"index":1,"text":"hi","new":1}]}')
    assert (chunk.id, chunk.choices[0].index, chunk.choices[0].text) == ("x", 1, "hi")


def test_null_is_a_chunk_that_says_nothing() -> None:
    assert decode_chunk(b" null ").choices == []


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":null,"usage":{"prompt_tokens":null,"completion_tokens":3}}',
        b'{"choices":[],"usage":{"completion_tokens":3},"timings":{"predicted_n":null},"metrics":null}',
    ],
)
def test_a_field_that_is_null_is_as_good_as_one_that_is_not_there(data: bytes) -> None:
    chunk = decode_chunk(data)
    assert chunk.choices == []
    assert chunk.usage is not None
    assert chunk.usage.completion_tokens == 3


def test_nulls_in_a_choice_take_nothing_from_its_text() -> None:
    call = {"index": None, "function": {"arguments": "{"}}
    assert texts(index=None, delta={"content": "a", "tool_calls": [call]}) == (
        (Channel.CONTENT, "a"),
        (Channel.TOOL, "{"),
    )


@pytest.mark.parametrize(
    ("data", "says", "where"),
    [
        (b'{"id":"x"', "not JSON", "end"),
        (b'{"id":x}', "not JSON", "byte 6"),
        (b'{"a":"\xe2\x82"}', "not UTF-8", "byte 6"),
        (b'{"choices":[{"index":"a"}]}', "not a chunk: Expected `int`, got `str`", "$.choices[0].index"),
        (b'{"choices":[{"delta":{"content":1}}]}', "not a chunk", "$.choices[0].delta.content"),
        (b"[]", "not a chunk: Expected `object`, got `array`", "$"),
        (b"[DONE]", "not a chunk", "$"),
        (b"", "not JSON", "end"),
    ],
)
def test_a_broken_chunk_names_its_place(data: bytes, says: str, where: str) -> None:
    with pytest.raises(ProtocolError, match=says) as caught:
        decode_chunk(data)
    assert caught.value.where == where


def test_the_marker_of_the_end() -> None:
    assert is_done(b"[DONE]")
    assert is_done(b" [DONE] ")
    assert not is_done(b'{"a":"[DONE]"}')


def test_plain_texts_of_both_routes() -> None:
    assert texts(text="hi") == ((Channel.CONTENT, "hi"),)
    assert texts(delta={"content": "hi"}) == ((Channel.CONTENT, "hi"),)


@pytest.mark.parametrize("choice", [{"text": ""}, {"delta": {"role": "assistant", "content": ""}}, {}])
def test_empty_texts_are_left_out(choice: dict[str, Any]) -> None:
    assert texts(**choice) == ()


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_both_names_of_reasoning(name: str) -> None:
    assert texts(delta={name: "hm", "content": "so"}) == ((Channel.REASONING, "hm"), (Channel.CONTENT, "so"))


def test_reasoning_sent_under_both_names_counts_once() -> None:
    assert texts(delta={"reasoning": "hm", "reasoning_content": "hm"}) == ((Channel.REASONING, "hm"),)


def test_a_refusal_is_content_and_tool_arguments_are_watched() -> None:
    calls = [
        {"index": 0, "function": {"name": "f", "arguments": '{"a"'}},
        {"index": 1, "function": {"arguments": "1"}},
        {"index": 2, "id": "x"},
    ]
    assert texts(delta={"content": "", "refusal": "no", "tool_calls": calls}) == (
        (Channel.CONTENT, "no"),
        (Channel.TOOL, '{"a"'),
        (Channel.TOOL, "1"),
    )
