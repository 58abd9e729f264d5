"""What a whole answer says, read for the judge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import ProtocolError
from guard.proto.registry import FAMILIES, family_at
from guard.proto.whole import decoded, samples
from guard.types import Channel

C, R, T = Channel.CONTENT, Channel.REASONING, Channel.TOOL
CALL = {"type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
NAMES = """choices message content text index tool_calls function arguments usage output type summary input meta_info
    tokens_predicted completion_tokens thinking"""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=4),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES.split()),
            part,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        (
            "/v1/chat/completions",
            {
                "choices": [
                    {"index": 1, "message": {"reasoning": "Hm", "content": "Hi", "tool_calls": [CALL]}},
                    {"index": 0, "message": {"reasoning_content": "So", "content": None, "refusal": "No"}},
                ],
                "usage": {"completion_tokens": 5},
            },
            [(1, R, "Hm"), (1, C, "Hi"), (1, T, '{"a":1}'), (0, R, "So"), (0, C, "No")],
        ),
        ("/v1/completions", {"choices": [{"text": "a"}, {"text": "b"}]}, [(0, C, "a"), (1, C, "b")]),
        (
            "/v1/messages",
            {
                "content": [
                    {"type": "thinking", "thinking": "Hm"},
                    {"type": "text", "text": "Hi"},
                    {"type": "tool_use", "input": {"a": 1}},
                ]
            },
            [(0, R, "Hm"), (0, C, "Hi"), (0, T, '{"a":1}')],
        ),
        (
            "/v1/responses",
            {
                "output": [
                    {"type": "reasoning", "summary": [], "content": [{"text": "Hm"}]},
                    {"type": "message", "content": [{"text": "Hi"}, {"refusal": "No"}]},
                    {"type": "function_call", "arguments": "{}"},
                ]
            },
            [(0, R, "Hm"), (0, C, "Hi"), (0, C, "No"), (0, T, "{}")],
        ),
        ("/completion", {"content": "Hi", "tokens_predicted": 1}, [(0, C, "Hi")]),
        ("/completion", [{"content": "a"}, {"content": "b"}], [(0, C, "a"), (1, C, "b")]),
        (
            "/generate",
            [{"text": "a", "meta_info": {"completion_tokens": 2}}, {"text": "b"}],
            [(0, C, "a"), (1, C, "b")],
        ),
    ],
)
def test_every_familys_texts_stand_in_their_choice_and_channel(path: str, answer: Any, said: list[Any]) -> None:
    family = family_at(path)
    assert family is not None
    joined: dict[tuple[int, Channel], str] = {}
    for sample in family.said(json.dumps(answer).encode()):
        for channel, text in sample.texts:
            joined[sample.choice, channel] = joined.get((sample.choice, channel), "") + text
    wanted: dict[tuple[int, Channel], str] = {}
    for choice, channel, text in said:
        wanted[choice, channel] = wanted.get((choice, channel), "") + text
    assert joined == wanted


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([C, R, T]), st.text(max_size=200)), max_size=5),
    st.integers(0, 900),
)
def test_no_character_is_lost_and_the_tokens_are_about_all(texts: list[Any], tokens: int) -> None:
    out = samples(texts, tokens)
    assert "".join(text for sample in out for _, text in sample.texts) == "".join(text for _, _, text in texts)
    assert all(sample.tokens >= 0 for sample in out)
    if tokens and out:
        assert abs(sum(sample.tokens for sample in out) - tokens) <= len(texts)


def test_pieces_stand_for_a_few_tokens_each() -> None:
    out = samples([(0, C, "abcd" * 100)], 100)
    assert len(out) == 13
    assert max(sample.tokens for sample in out) <= 8
    assert sum(sample.tokens for sample in samples([(0, C, "abcd" * 100)], None)) == 100


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.paths[0])
@given(value=VALUES)
def test_any_json_is_read(family: Any, value: Any) -> None:
    family.said(json.dumps(value).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="not JSON"):
        decoded(body)


@pytest.mark.parametrize("absurd", [2**31, 10**400, -(10**400), 0, "9", None])
def test_tokens_that_are_no_count_are_told_by_the_text(absurd: object) -> None:
    assert sum(sample.tokens for sample in samples([(0, C, "word " * 80)], absurd)) == 100
