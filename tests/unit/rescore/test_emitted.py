"""What is kept of an answer so that it can be scored again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.proto.openai import decode_chunk
from guard.rescore import emitted
from guard.rescore.emitted import Emitted


def chunk(**choice: Any) -> bytes:
    top = choice.pop("top", {})
    return json.dumps({"choices": [{"index": 0, **choice}], **top}).encode()


def chat(ids: list[int], logprobs: list[float]) -> bytes:
    content = [{"token": "x", "logprob": value, "bytes": [1], "top_logprobs": []} for value in logprobs]
    return chunk(delta={"content": "x"}, token_ids=ids, logprobs={"content": content})


def kept(*chunks: bytes) -> Emitted:
    out = Emitted()
    for data in chunks:
        out.add(decode_chunk(data))
    return out


def test_chat_tells_the_prompt_at_the_top_and_tokens_with_each_chunk() -> None:
    opening = chunk(delta={"role": "assistant"}, logprobs=None, top={"prompt_token_ids": [1, 2]})
    got = kept(opening, chat([5], [-0.5]), chat([6, 7], [-0.25, -1.5]), chunk(delta={}, finish_reason="stop"))
    assert (got.prompt, list(got.tokens), list(got.logprobs)) == ([1, 2], [5, 6, 7], [-0.5, -0.25, -1.5])
    assert (got.blocker, got.size) == ("", 5)


def test_completions_tell_both_in_the_choice() -> None:
    first = chunk(text="a", prompt_token_ids=[1], token_ids=[5], logprobs={"token_logprobs": [-1], "tokens": ["a"]})
    got = kept(first, chunk(text="b", prompt_token_ids=None, token_ids=[6], logprobs={"token_logprobs": [-2]}))
    assert (got.prompt, list(got.tokens), list(got.logprobs)) == ([1], [5, 6], [-1.0, -2.0])


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (chunk(delta={"content": "x"}, token_ids=[5]), "without its log-probability"),
        (chat([5, 6], [-1.0]), "another number"),
        (chunk(delta={}, token_ids=[5], logprobs={"content": "no"}), "not understood"),
        (chunk(text="a", token_ids=[5], logprobs={"token_logprobs": [None]}), "not understood"),
    ],
)
def test_what_is_not_whole_is_given_up_and_says_why(bad: bytes, says: str) -> None:
    got = kept(chunk(delta={}, top={"prompt_token_ids": [1]}), chat([4], [-1.0]), bad, chat([6], [-1.0]))
    assert says in got.blocker
    assert got.size == 0


def test_without_the_prompts_ids_or_any_token_nothing_can_be_scored() -> None:
    assert "prompt" in kept(chat([5], [-1.0])).blocker
    assert kept(chunk(delta={}, top={"prompt_token_ids": [1]})).blocker == "nothing was emitted"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitted, "MOST_TOKENS", 3)
    got = kept(chunk(delta={}, top={"prompt_token_ids": [1, 2]}), chat([5], [-1.0]), chat([6], [-1.0]))
    assert "longer than 3 tokens" in got.blocker
