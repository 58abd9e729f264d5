"""What is sent upstream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.proto.openai import ClientRequest, Route, parse_request
from guard.proto.request import stream_hazards, upstream_body

USER = {"role": "user", "content": "hi"}


def chat(**fields: Any) -> ClientRequest:
    return parse_request(Route.CHAT, json.dumps({"messages": [USER], **fields}).encode())


def completion(**fields: Any) -> ClientRequest:
    return parse_request(Route.COMPLETIONS, json.dumps({"prompt": "once", **fields}).encode())


def sent(request: ClientRequest, *, engine: str = "vllm", **args: Any) -> dict[str, Any]:
    args = {"switches": {}, "changes": {}, **args}
    body: dict[str, Any] = json.loads(upstream_body(request, engine=engine, **args))
    return body


def test_nothing_to_change_sends_the_clients_own_bytes() -> None:
    raw = b'{ "messages" : [], "stream":true, "seed": 1.50,"x":1 }'
    request = parse_request(Route.CHAT, raw)
    assert upstream_body(request, switches={}, changes={"seed": 1.5, "x": 1}, engine="text") is raw


def test_what_is_not_touched_keeps_its_exact_bytes() -> None:
    raw = b'{"messages":[{"role":"user","content":"\\u00e9"}],"stream":true,"top_p":0.10,"n":1.0e0}'
    request = parse_request(Route.CHAT, raw)
    body = upstream_body(request, switches={"timings_per_token": True}, changes={}, engine="llama.cpp")
    assert body == raw[:-1] + b',"timings_per_token":true}'


def test_a_request_for_one_body_is_streamed_with_usage() -> None:
    body = sent(chat())
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


def test_stream_options_a_client_set_are_kept() -> None:
    body = sent(chat(stream_options={"continuous_usage_stats": True}))
    assert body["stream_options"] == {"continuous_usage_stats": True, "include_usage": True}


def test_a_streaming_client_is_not_given_usage_it_did_not_ask_for() -> None:
    assert "stream_options" not in sent(chat(stream=True), switches={"return_token_ids": True})


def test_switches_and_changes_are_set_and_win_over_the_client() -> None:
    body = sent(chat(stream=True, seed=1), switches={"return_token_ids": True}, changes={"seed": 2})
    assert (body["return_token_ids"], body["seed"]) == (True, 2)


def test_a_switch_inside_an_object_leaves_the_clients_own_entries() -> None:
    switches = {"vllm_xargs": {"guard_acceptance": 1}}
    assert sent(chat(stream=True), switches=switches)["vllm_xargs"] == {"guard_acceptance": 1}
    own = sent(chat(stream=True, vllm_xargs={"ngram_size": 4}), switches=switches)
    assert own["vllm_xargs"] == {"ngram_size": 4, "guard_acceptance": 1}


def test_a_number_is_not_the_boolean_it_equals() -> None:
    assert (
        sent(chat(stream=True, timings_per_token=1), switches={"timings_per_token": True})["timings_per_token"] is True
    )


def test_token_ids_are_not_asked_where_echo_would_change_with_them() -> None:
    assert "return_token_ids" not in sent(completion(echo=True), switches={"return_token_ids": True})


def test_a_completion_resumes_after_its_prompt() -> None:
    body = sent(completion(stream=True, max_tokens=10), resume_text=" upon", released_tokens=4)
    assert (body["prompt"], body["max_tokens"]) == ("once upon", 6)


def test_a_chat_on_llama_cpp_resumes_by_its_last_message() -> None:
    body = sent(chat(stream=True), engine="llama.cpp", resume_text="Well")
    assert body["messages"] == [USER, {"role": "assistant", "content": "Well"}]
    assert "continue_final_message" not in body


def test_a_chat_on_vllm_is_told_to_continue() -> None:
    body = sent(chat(stream=True), resume_text="Well")
    assert body["messages"] == [USER, {"role": "assistant", "content": "Well"}]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


@pytest.mark.parametrize(
    ("engine", "fields", "last"),
    [
        ("llama.cpp", {}, [{"role": "assistant", "content": "It is so"}]),
        ("vllm", {"continue_final_message": True}, [{"role": "assistant", "content": "It is so"}]),
        ("vllm", {}, [{"role": "assistant", "content": "It is"}, {"role": "assistant", "content": " so"}]),
    ],
)
def test_a_turn_the_client_began_is_continued_not_doubled(
    engine: str, fields: dict[str, Any], last: list[dict[str, str]]
) -> None:
    request = chat(stream=True, messages=[USER, {"role": "assistant", "content": "It is"}], **fields)
    assert sent(request, engine=engine, resume_text=" so")["messages"] == [USER, *last]


def test_every_limit_is_lowered_but_never_to_nothing() -> None:
    for ten in (10, 10.0, "10"):
        request = chat(stream=True, max_tokens=ten, max_completion_tokens=3, min_tokens=2)
        body = sent(request, resume_text="a", released_tokens=5)
        assert (body["max_tokens"], body["max_completion_tokens"], body["min_tokens"]) == (5, 1, 0)


@pytest.mark.parametrize(
    "request_",
    [
        completion(prompt=["a"]),
        chat(messages=[]),
        chat(messages=[{"role": "assistant", "content": None}], continue_final_message=True),
    ],
)
def test_an_impossible_resume_is_a_defect_of_the_caller(request_: ClientRequest) -> None:
    with pytest.raises(ValueError, match=r"resume|continue"):
        sent(request_, resume_text="x")


def test_what_no_stream_can_answer_is_named() -> None:
    assert stream_hazards(chat(), "vllm") == ()
    assert stream_hazards(chat(prompt_logprobs=1), "vllm") == ("prompt_logprobs is set",)
    assert stream_hazards(chat(prompt_logprobs=1, stream=True), "vllm") == ()
    assert stream_hazards(chat(logprobs=True), "vllm") == ()
    assert stream_hazards(chat(logprobs=True), "llama.cpp") == ("log-probabilities are asked",)


def test_vllms_echo_stands_for_the_prompts_log_probabilities() -> None:
    asked = ("log-probabilities of the prompt are asked",)
    assert stream_hazards(chat(echo=True), "vllm") == asked
    assert stream_hazards(completion(echo=True, logprobs=0), "vllm") == asked
    assert stream_hazards(completion(echo=True), "vllm") == ()
    assert stream_hazards(chat(echo=True), "sglang") == ()
    # vLLM refuses it, and its refusal is the client's answer.
    assert stream_hazards(chat(stream_options={"include_usage": True}), "vllm") == ("stream_options is set",)
    assert stream_hazards(chat(stream_options=None), "vllm") == ()


def test_what_is_added_stands_at_the_end_whatever_space_the_client_left() -> None:
    for raw in (b'{"stream":true,"messages": [ ]}', b' {"stream" : true, "messages":[]\n} \r\n\t'):
        request = parse_request(Route.CHAT, raw)
        body = upstream_body(request, switches={"return_token_ids": True}, changes={"seed": 7}, engine="vllm")
        assert body.startswith(raw.rstrip()[:-1])
        assert json.loads(body) == {"stream": True, "messages": [], "return_token_ids": True, "seed": 7}
        replaced = upstream_body(request, switches={"messages": [1]}, changes={}, engine="vllm")
        assert json.loads(replaced) == {"stream": True, "messages": [1]}


@pytest.mark.parametrize("stream", [1, "true", "YES"])
def test_a_stream_asked_for_in_another_way_is_spelled_out(stream: object) -> None:
    """Llama.cpp would take these for no stream, and the client reads events."""
    body = sent(chat(stream=stream, return_token_ids="on"), engine="llama.cpp")
    assert body == {"messages": [USER], "stream": True, "return_token_ids": "on"}
    assert chat(return_token_ids="on").return_token_ids
