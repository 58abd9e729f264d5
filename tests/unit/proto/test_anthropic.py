"""Anthropic's messages: read, passed, continued."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from guard.errors import ProtocolError
from guard.proto.anthropic import MESSAGES, UNNAMED, MessagesReader, MessagesRewriter
from guard.proto.chunks import LastChunk, sample_texts
from guard.proto.client import ClientRequest
from guard.proto.family import Continuation, Identity, Notice
from guard.proto.prompt import prompt_text
from guard.proto.request import upstream_body
from guard.proto.sse import SseEvent, SseParser
from guard.types import Channel, StepAcceptance
from guard.wire import Chunk
from tests.unit.proto.streams import SGLANG_MESSAGES, STOP, block, delta, end, named, recorded, start, stop

USER = {"role": "user", "content": "hi"}


def request(**fields: Any) -> ClientRequest:
    body = {"model": "m", "max_tokens": 10, "messages": [USER], "stream": True, **fields}
    return MESSAGES.parse("/v1/messages", json.dumps(body).encode())


def read(stream: bytes) -> list[Chunk]:
    reader = MESSAGES.reader()
    return [reader.read(event) for event in SseParser().feed(stream) if event.data is not None]


def said(stream: bytes) -> list[tuple[Channel, str]]:
    return [text for chunk in read(stream) for choice in chunk.choices for text in sample_texts(choice)]


def test_texts_stand_in_their_channels() -> None:
    assert said(SGLANG_MESSAGES) == [
        (Channel.REASONING, "Hm, "),
        (Channel.REASONING, "so."),
        (Channel.CONTENT, "Let me "),
        (Channel.CONTENT, "look. 😀"),
        (Channel.TOOL, '{"a": '),
        (Channel.TOOL, "1}"),
    ]


@pytest.mark.parametrize("name", ["llama_messages", "llama_messages_tool", "vllm_messages"])
def test_a_recorded_stream_begins_ends_and_says_why(name: str) -> None:
    chunks = read(recorded(name))
    assert [chunk.id for chunk in chunks if chunk.id]
    assert [isinstance(chunk, LastChunk) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] in (
        ["max_tokens"],
        ["end_turn"],
    )


def test_a_stop_reason_left_null_is_an_end_too() -> None:
    (chunk,) = read(named(end(None, output_tokens=1)))
    assert chunk.choices[0].finish_reason == UNNAMED


@pytest.mark.parametrize(
    "raw",
    [
        b'event: error\ndata: {"code":500,"message":"x","type":"server_error"}\n\n',  # llama.cpp
        b'event: error\ndata: {"type":"error","error":{"type":"internal_error","message":"x"}}\n\n',
        b'data: {"type":"error","error":{"type":"api_error","message":"x"}}\n\n',
    ],
)
def test_the_engines_errors_are_known(raw: bytes) -> None:
    (chunk,) = read(raw)
    assert chunk.error


@pytest.mark.parametrize("kind", ["ping", "something_new", "content_block_stop"])
def test_other_events_say_nothing(kind: str) -> None:
    (chunk,) = read(named({"type": kind}))
    assert chunk == Chunk()


def test_a_broken_event_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        read(b'data: {"type": 3}\n\n')


def events(stream: bytes, rewriter: MessagesRewriter) -> bytes:
    reader = MESSAGES.reader()
    out = b""
    for event in SseParser().feed(stream):
        chunk = Chunk() if event.data is None else reader.read(event)
        out += rewriter.apply(event, chunk)
    return out


@pytest.mark.parametrize("name", ["llama_messages", "vllm_messages"])
def test_a_first_attempt_passes_byte_for_byte(name: str) -> None:
    rewriter = MessagesRewriter()
    assert events(recorded(name), rewriter) == recorded(name)
    assert rewriter.identity is not None


CONTINUED = Continuation(Identity(b'"a"', None), prompt_tokens=-3, completion_tokens=3, text="Red, ")


def test_a_continuation_follows_in_the_open_block_and_counts_on() -> None:
    second = named(
        start(input_tokens=12, output_tokens=0),
        block(0, "text", text=""),
        delta(0, "text_delta", text="blue"),
        stop(0),
        end("end_turn", input_tokens=12, output_tokens=4),
        STOP,
    )
    assert events(second, MessagesRewriter(CONTINUED)) == named(
        delta(0, "text_delta", text="blue"), stop(0)
    ) + b"event: message_delta\ndata: " + msgspec.json.encode(
        end("end_turn", input_tokens=9, output_tokens=7)
    ) + b"\n\n" + named(STOP)


def test_a_continuation_with_nothing_to_add_still_closes_the_block() -> None:
    second = named(start(output_tokens=0), end("end_turn", output_tokens=0), STOP)
    out = events(second, MessagesRewriter(CONTINUED))
    kinds = [event.event for event in SseParser().feed(out)]
    assert kinds == ["content_block_stop", "message_delta", "message_stop"]


def test_a_continuation_that_begins_otherwise_is_refused() -> None:
    with pytest.raises(ProtocolError, match="does not begin with text"):
        events(named(start(), block(0, "thinking", thinking="")), MessagesRewriter(CONTINUED))


def test_a_text_is_continued_by_its_last_message_and_the_limit_lowered() -> None:
    body = upstream_body(
        request(),
        switches={"timings_per_token": True},
        changes={},
        resume_text="Red,",
        released_tokens=4,
        engine="llama.cpp",
    )
    fields = json.loads(body)
    assert fields["messages"] == [USER, {"role": "assistant", "content": "Red,"}]
    assert fields["max_tokens"] == 6
    assert "timings_per_token" not in fields
    begun = request(messages=[USER, {"role": "assistant", "content": "Oh: "}])
    assert begun.prefill == "Oh: "
    body = upstream_body(begun, switches={}, changes={}, resume_text="Red,", released_tokens=1, engine="llama.cpp")
    assert json.loads(body)["messages"] == [USER, {"role": "assistant", "content": "Oh: Red,"}]


@pytest.mark.parametrize(("engine", "can"), [("llama.cpp", True), ("vllm", False), ("sglang", False), ("text", False)])
def test_only_llama_cpp_continues_a_message(engine: str, can: bool) -> None:
    assert (MESSAGES.resume_blocker(engine) == "") is can


@pytest.mark.parametrize(
    ("fields", "hazard"),
    [
        ({"tools": [{"name": "f"}]}, "tools are offered"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking is on"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format is set"),
        ({"messages": []}, "the last message cannot be continued as text"),
        ({"messages": [{"role": "assistant", "content": []}]}, "the last message cannot be continued as text"),
    ],
)
def test_what_makes_a_message_unsafe_to_resume(fields: dict[str, Any], hazard: str) -> None:
    assert request(**fields).resume_hazards == (hazard,)


def test_harmless_values_are_no_hazard() -> None:
    assert request(tools=[], thinking={"type": "disabled"}, output_config={"effort": "low"}).resume_hazards == ()


def test_the_prompt_is_system_and_messages() -> None:
    asked = request(system=[{"type": "text", "text": "Be brief."}], messages=[{"role": "user", "content": "hi"}])
    assert prompt_text(asked) == "Be brief.\nhi"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (413, "request_too_large"), (502, "api_error"), (504, "api_error")],
)
def test_errors_are_in_anthropics_form(status: int, kind: str) -> None:
    notice = Notice("it broke", status=status, code="guard_cut")
    told = {"type": "error", "error": {"type": kind, "message": "it broke", "code": "guard_cut"}}
    assert json.loads(MESSAGES.error_body(notice)) == told
    (event,) = SseParser().feed(MESSAGES.error_event(notice))
    assert (event.event, json.loads(event.data or b"")) == ("error", told)


def test_comments_pass() -> None:
    assert MessagesRewriter(CONTINUED).apply(SseEvent(b": x\n\n", None), Chunk()) == b": x\n\n"


METRICS = '"metrics":{"speculative_decoding":{"per_step_accepted":[2],"per_step_drafted":[3]}}'
DELTA = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}'


@pytest.mark.parametrize("space", ["", " "])
def test_the_steps_of_vllms_plugin_are_read_and_taken_out(space: str) -> None:
    data = DELTA + "," + space + METRICS + "}"
    (event,) = SseParser().feed(f"event: content_block_delta\ndata: {data}\n\n".encode())
    chunk = MessagesReader().read(event)
    assert chunk.metrics is not None
    assert chunk.metrics.speculative_decoding is not None
    assert chunk.metrics.speculative_decoding.per_step_accepted == [2]
    plain = f"event: content_block_delta\ndata: {DELTA}}}\n\n".encode()
    assert MessagesRewriter(cut_metrics=True).apply(event, chunk) == plain
    assert MessagesRewriter().apply(event, chunk) == event.raw
    told = MessagesRewriter(cut_metrics=True, annotate=True).apply(event, chunk, [StepAcceptance(2, 3, 3, True)])
    assert told == plain.replace(b"}\n\n", b',"guard":{"accepted":[2],"drafted":[3]}}\n\n')
