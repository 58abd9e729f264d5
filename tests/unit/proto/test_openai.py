"""OpenAI's chat and completions routes: the client's request, and what the guard says in their form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.proto.chunks import LastChunk, Route
from guard.proto.client import ClientRequest
from guard.proto.family import Notice
from guard.proto.openai import CHAT, COMPLETIONS, parse_request
from guard.proto.sse import SseEvent, SseParser

ENGINES = ("llama.cpp", "vllm", "sglang", "text")

USER = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> ClientRequest:
    return parse_request(Route.CHAT, json.dumps({"messages": USER, **fields}).encode())


def completion(**fields: Any) -> ClientRequest:
    return parse_request(Route.COMPLETIONS, json.dumps({"prompt": "once", **fields}).encode())


def test_a_bare_request_takes_the_defaults() -> None:
    request = chat()
    assert (request.stream, request.model, request.n) == (False, "", 1)
    assert (request.timings_per_token, request.return_token_ids, request.max_tokens) == (False, False, None)
    assert request.resume_hazards == ()
    assert request.prefill == ""


def test_what_a_client_asked_for_is_read() -> None:
    request = chat(
        stream=True,
        model="m",
        n=3,
        stream_options={"include_usage": True},
        timings_per_token=True,
        return_token_ids=True,
        max_tokens=5,
        max_completion_tokens=7,
    )
    assert (request.stream, request.model, request.n) == (True, "m", 3)
    assert (request.timings_per_token, request.return_token_ids, request.max_tokens) == (True, True, 7)


def test_fields_of_a_wrong_type_are_left_for_the_backend_to_refuse() -> None:
    request = chat(model=3, n="two", max_tokens=True, stream_options=[], messages="hello")
    assert (request.model, request.n, request.max_tokens) == ("", 1, None)


@pytest.mark.parametrize(
    ("fields", "hazard"),
    [
        ({"tools": [{"type": "function"}]}, "tools are offered"),
        ({"response_format": {"type": "json_object"}}, "response_format is set"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs is set"),
        ({"guided_json": {}, "grammar": "root ::= x"}, "grammar is set"),
        ({"json_schema": {"type": "object"}}, "json_schema is set"),
        ({"n": 2}, "n > 1"),
        ({"n": "2"}, "n > 1"),
        ({"best_of": 2}, "best_of > 1"),
        ({"logprobs": True}, "logprobs are asked"),
        ({"echo": True}, "echo is set"),
        ({"messages": []}, "the last message cannot be continued as text"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}]},
            "the last message cannot be continued as text",
        ),
        ({"messages": ["a"]}, "the last message cannot be continued as text"),
    ],
)
def test_what_makes_a_chat_unsafe_to_resume(fields: dict[str, Any], hazard: str) -> None:
    assert chat(**fields).resume_hazards == (hazard,)


@pytest.mark.parametrize(
    ("fields", "hazard"),
    [
        ({"prompt": ["a", "b"]}, "the prompt is not one string"),
        ({"prompt": [1, 2]}, "the prompt is not one string"),
        ({"logprobs": 0}, "logprobs are asked"),
        ({"suffix": "x"}, "suffix is set"),
    ],
)
def test_what_makes_a_completion_unsafe_to_resume(fields: dict[str, Any], hazard: str) -> None:
    assert completion(**fields).resume_hazards == (hazard,)


def test_harmless_values_of_dangerous_fields_are_no_hazard() -> None:
    fields = {"tools": [], "n": 1, "logprobs": False, "echo": False, "response_format": {"type": "text"}}
    assert chat(**fields).resume_hazards == ()


def test_the_clients_own_beginning_of_the_answer_is_the_prefill() -> None:
    request = chat(messages=[*USER, {"role": "assistant", "content": "It is"}])
    assert request.prefill == "It is"
    assert request.resume_hazards == ()


def test_choices_are_counted_over_all_prompts() -> None:
    assert completion(prompt=["a", "b"], n=2).n == 4
    assert completion(prompt=[1, 2, 3], n=2).n == 2
    assert completion(prompt=[]).n == 1


def test_the_marker_is_the_last_chunk() -> None:
    reader = CHAT.reader()
    assert isinstance(reader.read(SseEvent(b"data: [DONE]\n\n", b"[DONE]")), LastChunk)
    assert not isinstance(reader.read(SseEvent(b"", b'{"id": "a"}')), LastChunk)


def test_an_error_has_all_four_fields_of_openais_form() -> None:
    notice = Notice("it broke", code="cut")
    assert json.loads(CHAT.error_body(notice)) == {
        "error": {"message": "it broke", "type": "guard_error", "param": None, "code": "cut"}
    }


def test_an_error_event_is_the_same_body_as_one_event() -> None:
    notice = Notice("it\nbroke", 400, "cut", "server_error", "n")
    (event,) = SseParser().feed(COMPLETIONS.error_event(notice))
    assert event.data == COMPLETIONS.error_body(notice)


@pytest.mark.parametrize(("family", "said"), [(CHAT, {"delta": {}}), (COMPLETIONS, {"text": ""})])
def test_a_choice_that_is_ended_never_looks_complete(family: Any, said: dict[str, Any]) -> None:
    (event,) = SseParser().feed(family.end_choice(b'{"id":"c1","created":1,"choices":[],"usage":{}}', 2))
    assert event.data is not None
    assert json.loads(event.data) == {
        "id": "c1",
        "created": 1,
        "choices": [{"index": 2, **said, "logprobs": None, "finish_reason": "content_filter"}],
    }


def test_only_engines_that_were_seen_to_continue_a_text_do() -> None:
    assert [engine for engine in ENGINES if not CHAT.resume_blocker(engine)] == ["llama.cpp", "vllm"]


def test_log_probabilities_are_asked_only_where_token_ids_say_all_of_the_prompt() -> None:
    def fields(**body: Any) -> dict[str, Any]:
        family = COMPLETIONS if "prompt" in body or "prompt_embeds" in body else CHAT
        return dict(family.logprob_fields(family.parse(family.paths[0], json.dumps(body).encode())))

    assert fields(prompt="a") == {"return_token_ids": True, "logprobs": 0}
    assert fields(prompt="a", logprobs=5) == {"return_token_ids": True, "logprobs": 5}
    assert fields(prompt_embeds="x") == {}
    assert fields(messages=[{"role": "user", "content": "a"}]) == {"return_token_ids": True, "logprobs": True}
    text, picture = {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:"}}
    assert fields(messages=[{"role": "user", "content": [text]}])
    assert fields(messages=[{"role": "user", "content": [text, picture]}]) == {}
