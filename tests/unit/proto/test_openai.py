"""The client's request and the backend's chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.errors import ProtocolError, RequestError
from guard.proto.openai import (
    ClientRequest,
    Route,
    decode_chunk,
    is_done,
    parse_request,
    route_of,
    sample_texts,
)
from guard.types import Channel

USER = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> ClientRequest:
    return parse_request(Route.CHAT, json.dumps({"messages": USER, **fields}).encode())


def completion(**fields: Any) -> ClientRequest:
    return parse_request(Route.COMPLETIONS, json.dumps({"prompt": "once", **fields}).encode())


def texts(**choice: Any) -> tuple[tuple[Channel, str], ...]:
    (decoded,) = decode_chunk(json.dumps({"choices": [{"index": 0, **choice}]}).encode()).choices
    return sample_texts(decoded)


def test_only_the_guarded_paths_have_a_route() -> None:
    assert route_of("/v1/chat/completions") is Route.CHAT
    assert route_of("/v1/completions") is Route.COMPLETIONS
    assert route_of("/v1/embeddings") is None
    assert route_of("/v1/chat/completions/") is None


def test_a_bare_request_takes_the_defaults() -> None:
    request = chat()
    assert (request.stream, request.model, request.n, request.include_usage) == (False, "", 1, False)
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
    assert (request.stream, request.model, request.n, request.include_usage) == (True, "m", 3, True)
    assert (request.timings_per_token, request.return_token_ids, request.max_tokens) == (True, True, 7)


def test_fields_of_a_wrong_type_are_left_for_the_backend_to_refuse() -> None:
    request = chat(model=3, n="two", max_tokens=True, stream_options=[], messages="hello")
    assert (request.model, request.n, request.max_tokens, request.include_usage) == ("", 1, None, False)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "JSON object"),
        (b"null", "JSON object"),
        (b'{"a":"\xff"}', r"not UTF-8 \(byte 6\)"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        parse_request(Route.CHAT, body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("stream", [1, "true", []])
def test_stream_must_be_a_boolean(stream: object) -> None:
    with pytest.raises(RequestError) as caught:
        chat(stream=stream)
    assert caught.value.param == "stream"


def test_a_null_stream_is_no_stream() -> None:
    assert chat(stream=None).stream is False


@pytest.mark.parametrize(
    ("fields", "hazard"),
    [
        ({"tools": [{"type": "function"}]}, "tools are offered"),
        ({"response_format": {"type": "json_object"}}, "response_format is set"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs is set"),
        ({"guided_json": {}, "grammar": "root ::= x"}, "grammar is set"),
        ({"json_schema": {"type": "object"}}, "json_schema is set"),
        ({"n": 2}, "n > 1"),
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


def test_a_chunk_is_decoded_and_unknown_fields_are_skipped() -> None:
    chunk = decode_chunk(b'{"id":"x","future":{"a":[1]},"choices":[{"index":1,"text":"hi","new":1}]}')
    assert (chunk.id, chunk.choices[0].index, chunk.choices[0].text) == ("x", 1, "hi")


def test_null_is_a_chunk_that_says_nothing() -> None:
    assert decode_chunk(b" null ").choices == []


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
