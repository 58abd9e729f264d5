"""llama.cpp's own completion route."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.errors import ProtocolError
from guard.proto.client import ClientRequest
from guard.proto.family import Continuation, Identity, Notice
from guard.proto.llama import COMPLETION
from guard.proto.prompt import prompt_text
from guard.proto.request import stream_hazards, upstream_body
from guard.proto.sse import SseParser
from guard.wire import Chunk
from tests.unit.proto.streams import plain, recorded


def request(**fields: Any) -> ClientRequest:
    return COMPLETION.parse("/completion", json.dumps({"prompt": "once", "stream": True, **fields}).encode())


def read(stream: bytes) -> list[Chunk]:
    reader = COMPLETION.reader()
    return [reader.read(event) for event in SseParser().feed(stream) if event.data is not None]


def rewritten(stream: bytes, asked: ClientRequest, continuation: Continuation | None = None) -> list[Any]:
    rewriter = COMPLETION.rewriter(asked, engine="llama.cpp", annotate=False, continuation=continuation)
    reader = COMPLETION.reader()
    out = b"".join(rewriter.apply(event, reader.read(event)) for event in SseParser().feed(stream))
    return [json.loads(event.data or b"") for event in SseParser().feed(out)]


def test_a_recorded_stream_is_read() -> None:
    chunks = read(recorded("llama_completion"))
    assert "".join(c.text or "" for chunk in chunks for c in chunk.choices) == " not just a reflection of the world's"
    assert [chunk.timings.predicted_n for chunk in chunks if chunk.timings] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert [c.finish_reason for chunk in chunks for c in chunk.choices] == [None] * 8 + ["length"]


def test_prompts_are_choices_and_the_null_before_them_says_nothing() -> None:
    chunks = read(recorded("llama_completion_two"))
    assert chunks[0] == Chunk()
    ends = [(c.index, c.finish_reason) for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert sorted(ends) == [(0, "length"), (1, "length")]


def test_an_error_is_known() -> None:
    (chunk,) = read(b'data: {"error":{"code":500,"message":"x","type":"server_error"}}\n\n')
    assert chunk.error


def test_closing_chunks_that_do_not_tell_their_choice_end_all_once_all_have_come() -> None:
    """`response_fields` can leave `index` and `stop` out; here choice 1 ends before choice 0 has said its last."""
    said = [{"index": at, "content": "x", "stop": False} for at in (0, 1, 1)]
    chunks = read(
        plain(*said, {"content": ""}, {"index": 0, "content": "y", "stop": False}, {"content": ""}, done=False)
    )
    ends = [[c.index for c in chunk.choices if c.finish_reason] for chunk in chunks]
    assert ends == [[], [], [], [], [], [0, 1]]
    one = read(plain({"index": 0, "content": "x", "stop": False}, {"content": ""}, done=False))
    assert [c.finish_reason for c in one[-1].choices] == ["stop"]


@pytest.mark.parametrize(
    ("kind", "asked", "unsure"), [("limit", ["xy"], True), ("limit", None, False), ("word", ["xy"], False)]
)
def test_a_token_kept_back_at_the_limit_makes_the_answer_unsure(kind: str, asked: object, unsure: bool) -> None:
    gatherer = COMPLETION.gatherer(request(stream=False, stop=asked), "llama.cpp")
    for count, text in ((1, "Hi"), (2, "")):
        said = {"index": 0, "content": text, "stop": False, "timings": {"predicted_n": count}}
        gatherer.add(json.dumps(said).encode())
    gatherer.add(json.dumps({"index": 0, "stop": True, "stop_type": kind, "timings": {"predicted_n": 2}}).encode())
    assert bool(gatherer.unsure) is unsure


def test_the_switch_leaves_no_trace_unless_it_was_the_clients() -> None:
    stream = recorded("llama_completion")
    plain = rewritten(stream, request())
    assert ["timings" in chunk for chunk in plain] == [False] * 8 + [True]
    assert plain[-1]["generation_settings"]["timings_per_token"] is False
    own = rewritten(stream, request(timings_per_token=True))
    assert own == [json.loads(event.data or b"") for event in SseParser().feed(stream)]


def test_a_continuation_counts_on_and_shows_the_clients_own_prompt() -> None:
    continuation = Continuation(Identity(None, None), prompt_tokens=-2, completion_tokens=2, text=" upon")
    last = rewritten(recorded("llama_completion"), request(n_predict=10), continuation)[-1]
    assert (last["tokens_predicted"], last["tokens_evaluated"], last["prompt"]) == (10, 1, "once")
    assert (last["generation_settings"]["n_predict"], last["generation_settings"]["max_tokens"]) == (10, 10)


def whole(stream: bytes, asked: ClientRequest) -> Any:
    gatherer = COMPLETION.gatherer(asked, "llama.cpp")
    for event in SseParser().feed(stream):
        gatherer.add(event.data or b"")
    return json.loads(gatherer.result())


def test_the_answer_is_the_closing_chunk_with_all_the_text() -> None:
    answer = whole(recorded("llama_completion"), request(stream=False))
    assert answer["content"] == " not just a reflection of the world's"
    assert answer["tokens"] == []
    assert answer["generation_settings"]["stream"] is False
    assert len(whole(recorded("llama_completion"), request(return_tokens=True))["tokens"]) == 8


@pytest.mark.parametrize(("told", "text"), [(1, "Hi\ufffd"), (3, "Hi")])
def test_half_a_character_at_the_end_is_shown_as_the_backend_shows_it(told: int, text: str) -> None:
    said = {"index": 0, "content": "Hi", "stop": False, "timings": {"predicted_n": told}}
    end = {"index": 0, "content": "", "stop": True, "stop_type": "limit", "timings": {"predicted_n": 3}}
    assert whole(plain(said, end, done=False), request())["content"] == text


@pytest.mark.parametrize(("asked", "told", "unsure"), [(True, 1, True), (True, 2, False), (False, 1, False)])
def test_tokens_that_the_stream_left_out_make_the_answer_unsure(asked: bool, told: int, unsure: bool) -> None:
    gatherer = COMPLETION.gatherer(request(return_tokens=asked), "llama.cpp")
    for number in range(told):
        gatherer.add(json.dumps({"index": 0, "content": "é", "tokens": [number], "stop": False}).encode())
    gatherer.add(b'{"index":0,"content":"","tokens":[],"stop":true,"tokens_predicted":2}')
    assert bool(gatherer.unsure) is unsure


def test_several_prompts_give_a_list() -> None:
    answer = whole(recorded("llama_completion_two"), request())
    assert [part["index"] for part in answer] == [0, 1]


def test_an_answer_that_did_not_end_is_none() -> None:
    with pytest.raises(ProtocolError, match="closing chunk"):
        whole(b'data: {"index":0,"content":"a","stop":false}\n\n', request())


@pytest.mark.parametrize(
    ("fields", "n"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"prompt": ["a", "b"]}, 2),
        ({"prompt": [1, 2]}, 1),
        ({"prompt": [[1], [2]], "n_cmpl": 2}, 4),
    ],
)
def test_choices_are_counted_over_all_prompts(fields: dict[str, Any], n: int) -> None:
    assert request(**fields).n == n


@pytest.mark.parametrize(
    ("fields", "hazard"),
    [
        ({"grammar": "root ::= x"}, "grammar is set"),
        ({"json_schema": {"a": 1}}, "json_schema is set"),
        ({"n": 2}, "n > 1"),
        ({"n_probs": 1}, "n_probs is set"),
        ({"response_fields": ["content"]}, "response_fields is set"),
        ({"prompt": [1]}, "the prompt is not one string"),
    ],
)
def test_what_makes_it_unsafe_to_resume(fields: dict[str, Any], hazard: str) -> None:
    assert request(**fields).resume_hazards == (hazard,)


def test_the_body_of_an_attempt() -> None:
    switches = {"timings_per_token": True}
    assert json.loads(upstream_body(request(), switches=switches, changes={}, engine="llama.cpp"))["timings_per_token"]
    assert upstream_body(request(), switches=switches, changes={}, engine="text") == request().raw
    resumed = upstream_body(
        request(n_predict=9), switches={}, changes={}, resume_text=" upon", released_tokens=4, engine="llama.cpp"
    )
    assert json.loads(resumed) == {"prompt": "once upon", "stream": True, "n_predict": 5}


def test_what_only_a_whole_answer_has_is_left_to_the_backend() -> None:
    assert stream_hazards(request(stream=False, n_probs=2), "llama.cpp") == ("n_probs is set",)
    assert stream_hazards(request(n_probs=2), "llama.cpp") == ()


def test_the_prompt_in_its_forms() -> None:
    assert prompt_text(request()) == "once"
    assert prompt_text(request(prompt={"prompt_string": "upon"})) == "upon"
    assert prompt_text(request(prompt=["a", [1, 2]])) == "a"


def test_errors_are_in_llama_cpps_form() -> None:
    notice = Notice("it broke", status=502, code="guard_cut")
    told = {"error": {"code": 502, "message": "it broke", "type": "guard_cut"}}
    assert json.loads(COMPLETION.error_body(notice)) == told
    (event,) = SseParser().feed(COMPLETION.error_event(notice))
    assert json.loads(event.data or b"") == told


def test_only_llama_cpp_continues_here() -> None:
    assert [engine for engine in ("llama.cpp", "vllm", "sglang") if not COMPLETION.resume_blocker(engine)] == [
        "llama.cpp"
    ]


def test_log_probabilities_have_the_form_of_the_chat_route() -> None:
    tokens = [{"id": 5, "token": " a", "bytes": [32, 97], "logprob": -0.25, "top_logprobs": []}]
    stream = plain(
        {"index": 0, "content": " a", "stop": False, "completion_probabilities": tokens},
        {"index": 0, "content": "", "stop": True, "completion_probabilities": tokens},
        done=False,
    )
    first, last = (choice for chunk in read(stream) for choice in chunk.choices)
    assert json.loads(bytes(first.logprobs)) == {"content": tokens}
    assert not last.logprobs, "the end would tell them once more"
