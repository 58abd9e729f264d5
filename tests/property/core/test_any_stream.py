"""No bytes of a backend or client escape the declared errors, on any route."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.detect.catalogue import CATALOGUE
from guard.errors import ProtocolError
from guard.policy.judge import Judge
from guard.policy.schema import Leaf, Policy, Rule
from guard.proto.family import Continuation, Identity, Notice
from guard.proto.registry import FAMILIES, family_at
from guard.proto.responses import RESPONSES
from guard.proto.sse import SseParser
from guard.types import Action, Kind, SignalRef, Window
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


#: Valid where nobody looks, so that the first reading of an event passes over them.
UNSEEN = (b'"odd":1e400', b'"odd":"\\ud800"', b'"response":null', b'"usage":{"x":1e400}', b'"timings":{"x":1e400}',
          b'"prompt_token_ids":[1]', b'"content_block":"text"', b'"sequence_number":1e400')  # fmt: skip


def _odd(stream: bytes) -> list[bytes]:
    """The stream with one more field in one of its first or last events, or with an event that is null."""
    events = [event.raw for event in SseParser().feed(stream)]
    places = sorted({*range(len(events))[:3], *range(len(events))[-4:]})
    out = [b"".join([*events[:at], b"data: null\n\n", *events[at:]]) for at in places]
    for at in places:
        for field in UNSEEN:
            changed = events[at].replace(b"data: {", b"data: {" + field + b",", 1)
            out.append(b"".join([*events[:at], changed, *events[at + 1 :]]))
    return out


@pytest.mark.parametrize("name", STREAMS)
def test_what_the_first_reading_passes_over_breaks_no_second_one(name: str) -> None:
    engine, path, stream = STREAMS[name]
    family = family_at(path)
    assert family is not None
    for odd in _odd(stream):
        for body in BODIES[:2]:
            play(family, engine, body, [odd])
        asked = family.parse(path, b'{"stream": true, "prompt": "a"}')
        follows = Continuation(Identity(None, None), prompt_tokens=-2, completion_tokens=2, text="a")
        reader = family.reader()
        rewriter = family.rewriter(asked, engine=engine, annotate=True, continuation=follows)
        for event in SseParser().feed(odd):
            if event.data is not None:
                with contextlib.suppress(ProtocolError):
                    rewriter.apply(event, reader.read(event))


def test_an_error_event_has_no_number_where_the_last_one_is_none() -> None:
    notice = Notice("broke", 502)
    for sent, number in ((b"7", b'"sequence_number":8'), (b"1e400", b""), (b'"7"', b"")):
        event = RESPONSES.error_event(notice, b'data: {"sequence_number":' + sent + b"}\n\n")
        assert (b"sequence_number" in event) is bool(number)
        assert number in event


@pytest.mark.parametrize("engine", ENGINES)
def test_a_response_that_is_null_is_no_answer(engine: str) -> None:
    said = play(RESPONSES, engine, b'{"stream": false}', [b'data: {"type":"response.completed","response":null}\n\n'])
    assert b"guard_error" in said


FIELDS = st.one_of(NAMES, st.sampled_from(ASKED.split()))
REQUESTS = st.one_of(
    st.dictionaries(FIELDS, VALUES, max_size=6).map(lambda fields: json.dumps(fields).encode()), st.binary(max_size=20)
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.paths[0])
@given(body=REQUESTS)
def test_any_request_is_read_or_refused(family: Any, body: bytes) -> None:
    read_request(family, body)


def _reads_all() -> Judge:
    """A judge that reads every signal there is, over as much as it may, and never acts."""
    rules: list[Rule] = []
    for name, spec in CATALOGUE.items():
        ref = SignalRef(name, Window(64, spec.window_units[0]) if spec.window_units else None)
        for zero, one in ((spec.low, math.inf), (spec.high, -math.inf)):
            leaf = Leaf(signal=ref, zero=zero, one=one, step=True)
            rules.append(Rule(name=f"{name} {one}", kind=Kind.GARBLED, action=Action.NOTE, when=leaf))
    return Judge(Policy(name="reads all", rules=tuple(rules)))


#: Where a backend tells how many tokens there are: path, and an event with one of its counts left open.
COUNTED = (
    *(
        (
            "/v1/chat/completions",
            '{"choices":[{"index":0,"delta":{"content":"hello there "}' + ids + "}]," + counts + "}",
        )
        for ids in ("", ',"token_ids":[1,2]')
        for counts in (
            '"metrics":{"speculative_decoding":{"per_step_accepted":[N],"per_step_drafted":[3]}}',
            '"metrics":{"speculative_decoding":{"per_step_accepted":[1],"per_step_drafted":[N]}}',
            '"metrics":{"speculative_decoding":{"per_step_accepted":[1,N],"per_step_drafted":[3,N]}}',
            '"usage":{"prompt_tokens":N,"completion_tokens":N}',
            '"timings":{"predicted_n":N,"draft_n":3,"draft_n_accepted":2}',
            '"timings":{"predicted_n":3,"draft_n":N,"draft_n_accepted":N}',
        )
    ),
    ("/v1/completions", '{"choices":[{"index":0,"text":"hello there "}],"usage":{"completion_tokens":N}}'),
    ("/completion", '{"index":0,"content":"hello there ","stop":false,"timings":{"predicted_n":N,"draft_n":N}}'),
    ("/generate", '{"text":"hello there ","output_ids":[1],"meta_info":{"completion_tokens":N,"finish_reason":null}}'),
)
WHOLE = b'{"choices":[{"index":0,"message":{"content":"hello there"}}],"usage":{"completion_tokens":N}}'


@pytest.mark.parametrize("absurd", ["-1", str(2**31), str(2**53 + 1), str(2**64), "9" * 400, "-" + "9" * 400])
def test_counts_beyond_all_measure_are_read_by_no_detector(absurd: str) -> None:
    """One that no float can hold would break whatever reads it."""
    judge, count = _reads_all(), absurd.encode()
    for path, event in COUNTED:
        family = family_at(path)
        assert family is not None
        piece = b"data: " + event.encode().replace(b"N", count) + b"\n\n"
        for engine in ENGINES:
            said = play(family, engine, BODIES[0], [piece] * 60, judge=judge)
            assert said.count(b"hello there ") == 60
    family = family_at("/v1/chat/completions")
    assert family is not None
    said = play(family, "llama.cpp", BODIES[3], [WHOLE.replace(b"N", count)], judge=judge)
    assert said == WHOLE.replace(b"N", count)
