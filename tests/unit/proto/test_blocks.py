"""A message put together again, as each engine answers at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.errors import ProtocolError
from guard.proto.blocks import MessageAssembler
from guard.proto.sse import SseParser
from tests.unit.proto.streams import SGLANG_MESSAGES, STOP, block, delta, end, named, recorded, start, stop


def whole(stream: bytes, engine: str, prefill: str = "") -> dict[str, Any]:
    assembler = MessageAssembler(engine, prefill)
    for event in SseParser().feed(stream):
        if event.data is not None:
            assembler.add(event.data)
    answer: dict[str, Any] = json.loads(assembler.result())
    return answer


def test_sglang() -> None:
    assert whole(SGLANG_MESSAGES, "sglang") == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm, so."},
            {"type": "text", "text": "Let me look. 😀"},
            {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "call_2", "name": "g", "input": {}},
        ],
        "model": "m",
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 9, "output_tokens": 30},
    }


def test_llama_cpp_keeps_its_nulls_and_repeats_the_prefill() -> None:
    answer = whole(recorded("llama_messages"), "llama.cpp", "Well: ")
    assert answer["stop_sequence"] is None
    assert answer["content"][0]["text"].startswith("Well: ")
    assert answer["usage"]["output_tokens"] == 8


def test_vllm_has_no_nulls_and_puts_the_text_before_the_tools() -> None:
    stream = named(
        start(input_tokens=1, output_tokens=0),
        block(0, "text", text=""),
        delta(0, "text_delta", text="a"),
        stop(0),
        block(1, "tool_use", id="c", name="f", input={}),
        delta(1, "input_json_delta", partial_json="{"),
        stop(1),
        block(2, "text", text=""),
        delta(2, "text_delta", text="b"),
        stop(2),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": None},
        STOP,
    )
    answer = whole(stream, "vllm")
    assert answer["content"] == [
        {"type": "text", "text": "ab"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {}},
    ]
    assert "stop_sequence" not in answer


@pytest.mark.parametrize(("engine", "content"), [("llama.cpp", []), ("vllm", [{"type": "text", "text": ""}])])
def test_an_empty_answer(engine: str, content: list[object]) -> None:
    stream = named(start(output_tokens=0), end("end_turn", output_tokens=0), STOP)
    assert whole(stream, engine)["content"] == content


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (b"", "without a message"),
        (named(end("end_turn")), "before message_start"),
        (named(start(), {"type": "content_block_start", "content_block": {}}), "no number"),
        (b"data: [1]\n\n", "no JSON object"),
    ],
)
def test_what_is_no_message_is_refused(stream: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        whole(stream, "vllm")


def call(*pieces: str, reason: str = "tool_use") -> bytes:
    parts = [delta(0, "input_json_delta", partial_json=piece) for piece in pieces]
    return named(start(), block(0, "tool_use", id="c", name="f", input={}), *parts, stop(0), end(reason), STOP)


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (call('{"a":', "1}"), ""),
        (call("fal", "se"), "no object"),
        (call('{"a":', reason="max_tokens"), "cut a tool call"),
        (named(start(), block(0, "text", text=""), delta(0, "text_delta", text="a"), end("max_tokens"), STOP), "cut"),
        (
            named(start(), block(0, "text", text=""), delta(0, "text_delta", text="a"), end("stop_sequence"), STOP),
            "cut",
        ),
        (named(start(), block(0, "text", text=""), delta(0, "text_delta", text="a"), end("end_turn"), STOP), ""),
    ],
)
def test_vllm_would_perhaps_have_answered_otherwise_where_tools_were_offered(stream: bytes, why: str) -> None:
    for tools in (True, False):
        assembler = MessageAssembler("vllm", tools=tools)
        for event in SseParser().feed(stream):
            assembler.add(event.data or b"")
        assert (why in assembler.unsure and bool(assembler.unsure) == bool(why)) if tools else not assembler.unsure


@pytest.mark.parametrize(("tokens", "unsure"), [(2, False), (3, True)])
def test_llama_cpp_counts_a_token_that_it_does_not_tell(tokens: int, unsure: bool) -> None:
    texts = [delta(0, "text_delta", text=text) for text in ("a", "b")]
    assembler = MessageAssembler("llama.cpp")
    for event in SseParser().feed(named(start(), *texts, end("max_tokens", output_tokens=tokens), STOP)):
        assembler.add(event.data or b"")
    assert bool(assembler.unsure) is unsure
