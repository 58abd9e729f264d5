"""No bytes of a backend or client escape the declared errors, on any route."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.proto.registry import FAMILIES
from guard.proto.sse import SseParser
from tests.property.core.any_stream import BODIES, ENGINES, play, read_request
from tests.property.core.recorded import STREAMS

WORDS = """type delta text thinking partial_json content stop stop_type index output_ids meta_info finish_reason
    choices message usage response error timings id tool_calls function arguments output_tokens completion_tokens
    content_block input status"""
ASKED = """messages input prompt n sampling_params max_tokens stream tools system thinking output_config
    stream_options response_format"""
NAMES = st.sampled_from(WORDS.split())
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**70), st.floats(allow_nan=False), st.text(max_size=5),
    st.sampled_from(["message_start", "message_delta", "message_stop", "content_block_delta", "content_block_start",
                     "response.completed", "response.failed", "response.output_text.delta", "error", "length"]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(NAMES, part, max_size=5)), max_leaves=12
)
PIECES = st.one_of(
    VALUES.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n"),
    VALUES.map(lambda value: b"event: error\ndata: " + json.dumps(value).encode() + b"\n\n"),
    st.sampled_from([event.raw for _, _, stream in STREAMS.values() for event in SseParser().feed(stream)]),
    st.binary(max_size=12),
    st.just(b"data: [DONE]\n\n"),
    st.just(b"\n\n"),
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.paths[0])
@given(
    pieces=st.lists(PIECES, max_size=12),
    engine=st.sampled_from(ENGINES),
    body=st.sampled_from(BODIES),
    annotate=st.booleans(),
)
def test_any_stream_comes_to_an_end(family: Any, pieces: list[bytes], engine: str, body: bytes, annotate: bool) -> None:
    play(family, engine, body, pieces, annotate=annotate)


FIELDS = st.one_of(NAMES, st.sampled_from(ASKED.split()))
REQUESTS = st.one_of(
    st.dictionaries(FIELDS, VALUES, max_size=6).map(lambda fields: json.dumps(fields).encode()), st.binary(max_size=20)
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.paths[0])
@given(body=REQUESTS)
def test_any_request_is_read_or_refused(family: Any, body: bytes) -> None:
    read_request(family, body)
