"""OpenAI's responses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.errors import ProtocolError
from guard.proto.chunks import LastChunk, sample_texts
from guard.proto.client import ClientRequest
from guard.proto.family import Notice
from guard.proto.prompt import prompt_text
from guard.proto.request import stream_hazards, upstream_body
from guard.proto.responses import RESPONSES, ResponseAssembler, ResponsesReader
from guard.proto.sse import SseParser
from guard.proto.unsaid import KEPT_BACK
from guard.types import Channel
from guard.wire import Chunk
from tests.unit.proto.streams import SGLANG_RESPONSES, named, plain, recorded, response


def request(**fields: Any) -> ClientRequest:
    return RESPONSES.parse(
        "/v1/responses", json.dumps({"model": "m", "input": "hi", "stream": True, **fields}).encode()
    )


def read(stream: bytes) -> list[Chunk]:
    reader = RESPONSES.reader()
    return [reader.read(event) for event in SseParser().feed(stream) if event.data is not None]


def test_deltas_stand_in_their_channels() -> None:
    chunks = read(SGLANG_RESPONSES)
    assert [text for chunk in chunks for c in chunk.choices for text in sample_texts(c)] == [
        (Channel.REASONING, "Hm"),
        (Channel.CONTENT, "Re"),
        (Channel.CONTENT, "d 😀"),
        (Channel.TOOL, '{"a":1}'),
    ]
    assert chunks[-1].choices[0].finish_reason == "length"
    assert chunks[0].id == "resp_1"


@pytest.mark.parametrize("name", ["llama_responses", "vllm_responses"])
def test_a_recorded_stream_ends_with_its_response(name: str) -> None:
    chunks = read(recorded(name))
    assert [isinstance(chunk, LastChunk) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert sum(bool(chunk.choices) for chunk in chunks) >= 5


@pytest.mark.parametrize("kind", ["refusal.delta", "reasoning_summary_text.delta", "mcp_call_arguments.delta"])
def test_other_texts_are_watched_too(kind: str) -> None:
    (chunk,) = read(named(response(kind, delta="x")))
    assert sample_texts(chunk.choices[0])


@pytest.mark.parametrize("event", [response("audio.delta", delta="x"), response("new", delta={"a": 1}), {"type": "x"}])
def test_what_is_not_known_says_nothing(event: dict[str, Any]) -> None:
    (chunk,) = read(named(event))
    assert chunk.choices == []


@pytest.mark.parametrize(
    "raw",
    [
        named(response("failed", response={"id": "r", "error": {"code": "server_error", "message": "x"}})),
        named(response("failed", response={"id": "r", "error": None})),
        named({"type": "error", "code": "x", "message": "y"}),
        plain({"error": {"code": 500, "message": "x"}}, done=False),  # llama.cpp
    ],
)
def test_the_engines_errors_are_known(raw: bytes) -> None:
    (chunk,) = read(raw)
    assert chunk.error


def rewritten(stream: bytes, engine: str, **fields: Any) -> bytes:
    rewriter = RESPONSES.rewriter(request(**fields), engine=engine, annotate=False, continuation=None)
    reader = RESPONSES.reader()
    return b"".join(rewriter.apply(event, reader.read(event)) for event in SseParser().feed(stream))


def test_llama_cpps_timings_go_from_the_deltas_and_stay_at_the_end() -> None:
    stream = recorded("llama_responses")
    events = SseParser().feed(rewritten(stream, "llama.cpp"))
    timed = [event.event for event in events if b'"timings"' in event.raw]
    assert timed == ["response.completed"]
    assert [event.event for event in events] == [event.event for event in SseParser().feed(stream)]
    assert rewritten(stream, "llama.cpp", timings_per_token=True) == stream


def test_llama_cpps_timings_go_from_events_without_text_too() -> None:
    """A first token that may begin a stop word: the event that opens the answer has its timings."""
    opened = {"id": "resp_7", "created_at": 1}
    first = response("created", response=opened)
    timed = response("in_progress", response=opened, timings={"predicted_n": 1})
    rest = (response("output_item.added", item={}), response("output_text.delta", delta=" b"))
    end = response("completed", response=opened, timings={"predicted_n": 3})
    out = SseParser().feed(rewritten(named(first, timed, *rest, end), "llama.cpp", stop=[" green"]))
    untimed = {name: value for name, value in timed.items() if name != "timings"}
    assert [json.loads(event.data or b"") for event in out] == [first, untimed, *rest, end]


def test_other_engines_pass_byte_for_byte() -> None:
    assert rewritten(SGLANG_RESPONSES, "sglang") == SGLANG_RESPONSES
    assert rewritten(recorded("vllm_responses"), "vllm") == recorded("vllm_responses")


def whole(stream: bytes, engine: str) -> Any:
    gatherer = RESPONSES.gatherer(request(stream=False, max_output_tokens=2), engine)
    for event in SseParser().feed(stream):
        gatherer.add(event.data or b"")
    return json.loads(gatherer.result())


def test_the_answer_is_the_response_of_the_last_event() -> None:
    assert whole(SGLANG_RESPONSES, "sglang")["status"] == "incomplete"
    answer = whole(recorded("llama_responses"), "llama.cpp")
    assert answer["completed_at"] == answer["created_at"]
    assert "completed_at" not in whole(recorded("vllm_responses"), "vllm")


@pytest.mark.parametrize(("said", "text"), [((), "\ufffd"), (("Hi",), "Hi")])
def test_half_a_character_is_shown_as_llama_cpp_shows_it_where_it_is_all(said: tuple[str, ...], text: str) -> None:
    counted = {"predicted_n": 1}
    item = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    stream = named(
        *(response("output_text.delta", delta=part, timings=counted) for part in said),
        response(
            "completed",
            response={"id": "resp_7", "created_at": 1, "output": [item] if said else []},
            timings={"predicted_n": 2},
        ),
    )
    (message,) = whole(stream, "llama.cpp")["output"]
    assert message["content"][0]["text"] == text


@pytest.mark.parametrize(
    ("kinds", "limit", "unsure"),
    [
        (["in_progress"], 1, KEPT_BACK),  # not one text came
        (["output_text.delta", "in_progress"], 2, KEPT_BACK),
        (["in_progress", "output_text.delta"], 2, ""),
        (["output_text.delta", "in_progress"], 9, ""),  # it ended by itself
        (["output_text.delta", "in_progress"], None, ""),
    ],
)
def test_text_that_the_limit_kept_back_makes_the_answer_unsure(
    kinds: list[str], limit: int | None, unsure: str
) -> None:
    told = [response(kind, delta="a", timings={"predicted_n": at}) for at, kind in enumerate(kinds, 1)]
    end = response("completed", response={"id": "r", "output": []}, timings={"predicted_n": len(kinds)})
    gatherer = ResponseAssembler("llama.cpp", limit)
    for event in SseParser().feed(named(*told, end)):
        gatherer.add(event.data or b"")
    assert gatherer.unsure == unsure


@pytest.mark.parametrize("stream", [named(response("created", response={"id": "r"})), b"data: 1\n\n"])
def test_a_stream_without_its_response_is_no_answer(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        whole(stream, "vllm")


def test_only_llama_cpp_is_asked_for_its_signal() -> None:
    switches = {"timings_per_token": True}
    assert b"timings_per_token" in upstream_body(request(), switches=switches, changes={}, engine="llama.cpp")
    assert upstream_body(request(), switches={"return_token_ids": True}, changes={}, engine="vllm") == request().raw


def test_a_background_response_is_left_to_the_backend() -> None:
    assert stream_hazards(request(background=True, stream=False), "vllm") == ("background is set",)


def test_the_prompt_is_instructions_and_input() -> None:
    items = [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]
    assert prompt_text(request(instructions="Be brief.", input=items)) == "Be brief.\nhi"
    assert prompt_text(request()) == "hi"


def test_errors_are_in_openais_form() -> None:
    notice = Notice("it broke", code="guard_cut")
    assert json.loads(RESPONSES.error_body(notice))["error"]["code"] == "guard_cut"
    (event,) = SseParser().feed(RESPONSES.error_event(notice))
    told = json.loads(event.data or b"")
    assert event.event == told["type"] == "error"
    assert told["code"] == told["error"]["code"] == "guard_cut"


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        (named(response("created", sequence_number=0), response("output_text.delta", sequence_number=1, delta="a")), 2),
        (named(response("output_text.delta", sequence_number=41, delta="a")) + b": ping\n\n", 42),
        (recorded("vllm_responses"), 16),
        (recorded("llama_responses"), None),
        (named(response("output_text.delta", delta='"sequence_number":7')), None),
        (named(response("output_text.delta", delta="a", sequence_number="7")), None),
        (b"", None),
    ],
)
def test_an_error_event_goes_on_in_the_streams_numbering(sent: bytes, number: int | None) -> None:
    (event,) = SseParser().feed(RESPONSES.error_event(Notice("it broke"), sent))
    assert json.loads(event.data or b"").get("sequence_number") == number


@pytest.mark.parametrize("kind", ["response.output_text.delta", "response.completed"])
def test_the_steps_of_vllms_plugin_are_read_and_taken_out(kind: str) -> None:
    metrics = '"metrics":{"speculative_decoding":{"per_step_accepted":[2],"per_step_drafted":[3]}}'
    body = (
        f'{{"type":"{kind}","delta":"Hi","response":{{"id":"r"}}'
        if "completed" in kind
        else (f'{{"type":"{kind}","delta":"Hi"')
    )
    (event,) = SseParser().feed(f"event: {kind}\ndata: {body},{metrics}}}\n\n".encode())
    chunk = ResponsesReader().read(event)
    assert chunk.metrics is not None
    for asked, left in (({}, ""), ({"vllm_xargs": {"guard_acceptance": 1}}, "," + metrics)):
        request = RESPONSES.parse("/v1/responses", json.dumps({"input": "a", "stream": True, **asked}).encode())
        rewriter = RESPONSES.rewriter(request, engine="vllm", annotate=False, continuation=None)
        assert rewriter.apply(event, chunk) == f"event: {kind}\ndata: {body}{left}}}\n\n".encode()
