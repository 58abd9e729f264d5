"""
Streams of every family, to read, pass and put together again.

`recorded/llama_*.sse` and `recorded/vllm_*.sse` came from real servers (llama.cpp b11549 in xllamacpp
2026.10.11549 and vLLM 0.32 on a CPU, SmolLM2-135M, temperature 0). SGLang's are written after its
sources, see the modules of `guard.proto`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"


def recorded(name: str) -> bytes:
    """A recorded stream."""
    return (FOLDER / f"{name}.sse").read_bytes()


def named(*events: dict[str, Any]) -> bytes:
    """Events whose name is the type in their data, as all servers frame them."""
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)


def plain(*events: dict[str, Any], done: bool = True) -> bytes:
    """Events without a name, and the marker."""
    return b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events) + (
        b"data: [DONE]\n\n" if done else b""
    )


def start(**usage: int) -> dict[str, Any]:
    """`message_start` as SGLang writes it: without its nulls."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m", "usage": usage}
    return {"type": "message_start", "message": message}


def block(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def end(reason: str | None, **usage: int) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


STOP = {"type": "message_stop"}

#: SGLang's `_generate_anthropic_stream` with reasoning, text and two tool calls.
SGLANG_MESSAGES = named(
    start(input_tokens=9, output_tokens=0),
    block(0, "thinking", thinking=""),
    delta(0, "thinking_delta", thinking="Hm, "),
    delta(0, "thinking_delta", thinking="so."),
    stop(0),
    block(1, "text", text=""),
    delta(1, "text_delta", text="Let me "),
    delta(1, "text_delta", text="look. 😀"),
    stop(1),
    block(2, "tool_use", id="call_1", name="f", input={}),
    delta(2, "input_json_delta", partial_json='{"a": '),
    delta(2, "input_json_delta", partial_json="1}"),
    stop(2),
    block(3, "tool_use", id="call_2", name="g", input={}),
    stop(3),
    end("tool_use", output_tokens=30),
    STOP,
)


def generated(text: str, ids: list[int], *, total: int, finish: object = None, **more: Any) -> dict[str, Any]:
    """A chunk of SGLang's `/generate`."""
    meta = {
        "id": "r1",
        "finish_reason": finish,
        "prompt_tokens": 4,
        "weight_version": "default",
        "num_retractions": 0,
        "completion_tokens": total,
        "cached_tokens": 1,
    }
    return {"text": text, "output_ids": ids, "meta_info": meta, **more}


LENGTH = {"type": "length", "length": 4}
#: As servers stream by default: all so far in every chunk.
SGLANG_CUMULATIVE = plain(
    generated("Red", [1], total=1),
    generated("Red, blue", [1, 2, 3], total=3),
    generated("Red, blue 😀", [1, 2, 3, 4], total=4, finish=LENGTH),
)
#: As servers stream with --incremental-streaming-output.
SGLANG_INCREMENTAL = plain(
    generated("Red", [1], total=1),
    generated(", blue", [2, 3], total=3),
    generated(" 😀", [4], total=4, finish=LENGTH),
)
#: Two choices, or two prompts.
SGLANG_TWO = plain(
    generated("Red", [1], total=1, index=0),
    generated("Uno", [7], total=1, index=1),
    generated("Uno dos", [7, 8], total=2, finish={"type": "stop", "matched": 2}, index=1),
    generated("Red!", [1, 2], total=2, finish={"type": "stop", "matched": "!"}, index=0),
)
SGLANG_ERROR = {"error": {"message": "too long", "type": "invalid_request_error", "code": 400, "retryable": False}}


def response(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


#: SGLang's `responses_stream_generator_non_harmony`, cut at the token limit.
SGLANG_RESPONSES = named(
    response("created", sequence_number=0, response={"id": "resp_1", "status": "in_progress", "output": []}),
    response("in_progress", sequence_number=1, response={"id": "resp_1", "status": "in_progress", "output": []}),
    response(
        "output_item.added", sequence_number=2, output_index=0, item={"id": "rs_1", "type": "reasoning", "summary": []}
    ),
    response("reasoning_text.delta", sequence_number=3, item_id="rs_1", output_index=0, content_index=0, delta="Hm"),
    response("reasoning_text.done", sequence_number=4, item_id="rs_1", output_index=0, content_index=0, text="Hm"),
    response("output_text.delta", sequence_number=5, item_id="msg_1", output_index=1, content_index=0, delta="Re"),
    response("output_text.delta", sequence_number=6, item_id="msg_1", output_index=1, content_index=0, delta="d 😀"),
    response("function_call_arguments.delta", sequence_number=7, item_id="fc_1", output_index=2, delta='{"a":1}'),
    response(
        "incomplete",
        sequence_number=8,
        response={"id": "resp_1", "status": "incomplete", "output": [{"id": "msg_1"}], "usage": {"output_tokens": 4}},
    ),
)
