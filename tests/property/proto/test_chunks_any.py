"""Chunks and requests of any content."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from guard.errors import ProtocolError, RequestError
from guard.proto.assemble import Assembler
from guard.proto.openai import Route, decode_chunk, is_done, parse_request, sample_texts
from guard.proto.request import upstream_body
from guard.proto.rewrite import ChunkRewriter
from guard.proto.sse import SseParser
from guard.types import StepAcceptance

ENGINE = st.sampled_from(["llama.cpp", "vllm", "sglang", "text"])
TRICKY = st.sampled_from([',"timings":{', '"token_ids":[', "}]}", '"', "\\", "\n", "é", "\u2028", "[DONE]", "\0"])
TEXT = st.text(max_size=8) | TRICKY
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
EXTRA = st.dictionaries(st.sampled_from(["x", "token_ids", "timings", "metrics", "é", "model"]), VALUE, max_size=3)
IDS = st.none() | st.lists(st.integers(0, 99999), max_size=4)
DELTA = st.fixed_dictionaries(
    {}, optional={"role": st.just("assistant"), "content": st.none() | TEXT, "reasoning": TEXT, "odd": VALUE}
)
CHOICE = st.fixed_dictionaries(
    {"index": st.integers(0, 3)},
    optional={
        "delta": DELTA,
        "text": TEXT,
        "logprobs": st.none() | st.just({"content": []}),
        "finish_reason": st.none() | st.just("stop"),
        "odd": EXTRA,
        "token_ids": IDS,
        "prompt_token_ids": IDS,
    },
)
TIMINGS = st.fixed_dictionaries({"predicted_n": st.integers(0, 99), "ms": st.floats(0, 9)})
STEPS = st.fixed_dictionaries({"per_step_accepted": st.lists(st.integers(0, 9), max_size=3)})
CHUNK = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=2)},
    optional={
        "id": TEXT,
        "created": st.integers(0, 2**40),
        "odd": EXTRA,
        "timings": TIMINGS,
        "metrics": st.fixed_dictionaries({"speculative_decoding": STEPS}, optional={"other": VALUE}),
        "prompt_token_ids": IDS,
    },
)
#: How the JSON is spaced: compact as engines write it, Python's own, indented over several lines.
SPACING = st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :")])


def framed(chunk: dict[str, Any], spacing: tuple[str, str], indent: int | None, end: str) -> bytes:
    text = json.dumps(chunk, separators=spacing, indent=indent, ensure_ascii=False)
    return "".join(f"data: {line}{end}" for line in text.split("\n")).encode() + end.encode()


def pruned(chunk: dict[str, Any], engine: str) -> dict[str, Any] | None:
    """By hand: what the client should get of a chunk."""
    out: dict[str, Any] = json.loads(json.dumps(chunk))
    finished = any(choice.get("finish_reason") for choice in out["choices"])
    if engine == "llama.cpp" and out["choices"] and not finished:
        out.pop("timings", None)
    if engine != "vllm" or not out["choices"]:
        return out
    if "metrics" in out:
        out["metrics"].pop("speculative_decoding")
        if not out["metrics"]:
            out.pop("metrics")
    for choice in out["choices"]:
        # Asked for by re-scoring; stock, they are null for a client that did not ask.
        if choice.get("logprobs") is not None:
            choice["logprobs"] = None
    asked = [out.get("prompt_token_ids")]
    asked += [choice.get(name) for choice in out["choices"] for name in ("token_ids", "prompt_token_ids")]
    if all(value is None for value in asked):
        return out
    held_back = True
    for each in (out, *out["choices"]):
        for name in {"token_ids", "prompt_token_ids"} & set(each):
            each[name] = None
    for choice in out["choices"]:
        empty = choice.get("delta") == {} and not choice.get("finish_reason") and not choice.get("logprobs")
        held_back = held_back and empty
    return None if held_back else out


@given(CHUNK, ENGINE, SPACING, st.none() | st.just(1), st.sampled_from(["\n", "\r\n"]))
@example(
    {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": []}, "token_ids": None, "finish_reason": None}]},
    "vllm",
    (",", ":"),
    None,
    "\n",
)
def test_only_what_the_guard_asked_for_goes(
    chunk: dict[str, Any], engine: str, spacing: tuple[str, str], indent: int | None, end: str
) -> None:
    raw = framed(chunk, spacing, indent, end)
    (event,) = SseParser().feed(raw)
    assert event.data is not None
    rewriter = ChunkRewriter(parse_request(Route.CHAT, b'{"stream": true, "stop": ["x"]}'), engine=engine)
    closing = b'{"choices":[{"index":0,"finish_reason":"stop"}]}'
    (after,) = SseParser().feed(b"data: " + closing + b"\n\n")
    wanted = pruned(chunk, engine)
    got = rewriter.apply(event, decode_chunk(event.data))
    if got == b"" and wanted is not None:
        # A llama.cpp chunk without text: it comes with the next, and as it was if a stop word ended the answer.
        got = rewriter.apply(after, decode_chunk(closing)).removesuffix(after.raw)
        assert got == raw
        return
    if wanted is None:
        assert got == b""
        return
    (out,) = SseParser().feed(got)
    assert out.data is not None
    assert json.loads(out.data) == wanted
    if wanted == chunk:
        assert got == raw


@given(st.lists(VALUE, max_size=4), ENGINE, SPACING, st.booleans())
def test_values_the_guard_does_not_touch_keep_their_bytes(
    values: list[Any], engine: str, spacing: tuple[str, str], ascii_only: bool
) -> None:
    spelled = [json.dumps(value, separators=spacing, ensure_ascii=ascii_only) for value in values]
    inner = [f'"odd{number}":{text}' for number, text in enumerate(spelled)]
    body = ",".join(['"choices":[{"index":0,"text":"a","token_ids":null}]', *inner])
    added = ',"timings":{"predicted_n":1},"metrics":{"speculative_decoding":{}}'
    (event,) = SseParser().feed(f"data: {{{body}{added}}}\n\n".encode())
    assert event.data is not None
    rewriter = ChunkRewriter(parse_request(Route.CHAT, b"{}"), engine=engine, annotate=True)
    out = rewriter.apply(event, decode_chunk(event.data), (StepAcceptance(1, 2, 2, True),))
    assert out.startswith(f"data: {{{body},".encode())
    assert out.endswith(b'"guard":{"accepted":[1],"drafted":[2]}}\n\n')


@given(st.binary(max_size=80) | VALUE.map(lambda value: json.dumps(value).encode()))
def test_any_data_is_a_chunk_or_a_protocol_error(data: bytes) -> None:
    try:
        for choice in decode_chunk(data).choices:
            sample_texts(choice)
    except ProtocolError as error:
        assert error.where  # noqa: PT017 - either outcome is right


@given(
    st.lists(
        st.binary(max_size=40)
        | VALUE.map(lambda value: json.dumps(value).encode())
        | CHUNK.map(lambda chunk: json.dumps(chunk).encode()),
        max_size=4,
    ),
    st.sampled_from(list(Route)),
    ENGINE,
)
def test_any_stream_assembles_or_is_a_protocol_error(pieces: list[bytes], route: Route, engine: str) -> None:
    assembler = Assembler(route, engine, "pre")
    try:
        for data in pieces:
            assembler.add(data)
        answer = json.loads(assembler.result())
    except ProtocolError:
        return
    assert set(answer) >= {"object", "choices"}


@given(st.binary(max_size=60) | VALUE.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_request_or_a_request_error(body: bytes) -> None:
    for route in Route:
        try:
            request = parse_request(route, body)
        except RequestError:
            continue
        upstream_body(request, switches={"return_token_ids": True}, changes={"seed": 1}, engine="vllm")


@given(st.binary(max_size=12))
def test_only_the_marker_ends_a_stream(data: bytes) -> None:
    assert is_done(data) == (data.strip() == b"[DONE]")
