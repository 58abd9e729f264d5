"""The prompt as text, whatever its form, within bounds."""

from __future__ import annotations

import json

import pytest

from guard.proto.openai import ClientRequest, Route, parse_request
from guard.proto.prompt import MAX_CHARACTERS, prompt_text


def request(route: Route, **body: object) -> ClientRequest:
    return parse_request(route, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], "a\nb"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}], "a"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], ""),
        ("text", "text"),
        (None, ""),
        ([1, None, [[["deep"]]]], "deep"),
    ],
)
def test_messages(messages: object, text: str) -> None:
    assert prompt_text(request(Route.CHAT, messages=messages)) == text


@pytest.mark.parametrize(("prompt", "text"), [("a", "a"), (["a", "b"], "a\nb"), ([1, 2], "")])
def test_prompts(prompt: object, text: str) -> None:
    assert prompt_text(request(Route.COMPLETIONS, prompt=prompt)) == text


def test_the_end_of_a_long_prompt_is_kept() -> None:
    messages = [{"role": "user", "content": "x" * MAX_CHARACTERS}, {"role": "user", "content": "the end"}]
    text = prompt_text(request(Route.CHAT, messages=messages))
    assert len(text) == MAX_CHARACTERS
    assert text.endswith("the end")
