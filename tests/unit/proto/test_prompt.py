"""The prompt as text, whatever its form, within bounds."""

from __future__ import annotations

import json

import pytest

from guard.proto.openai import ClientRequest, Route, parse_request
from guard.proto.prompt import MAX_CHARACTERS, prompt_beginning, prompt_text


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


def test_the_beginning_is_what_prompts_with_a_common_prefix_share() -> None:
    system = {"role": "system", "content": "You are terse. " * 20}
    turns = [{"role": "user", "content": [{"type": "text", "text": f"Question {i}"}]} for i in range(3)]
    asked = [parse_request(Route.CHAT, json.dumps({"messages": [system, turn]}).encode()) for turn in turns]
    assert len({prompt_beginning(one, 200) for one in asked}) == 1
    assert len({prompt_beginning(one, 400) for one in asked}) == 3
    assert prompt_beginning(asked[0], 400).endswith("\nQuestion 0")
    assert prompt_beginning(asked[0], 0) == ""
    tokens = parse_request(Route.COMPLETIONS, b'{"prompt": [1, 2, 3]}')
    assert prompt_beginning(tokens, 100) == ""
