"""guard.backend.vllm.acceptance.chunks: where in an event the steps go, and that the guard can cut them out again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.backend.vllm.acceptance.chunks import into_anthropic_event, into_openai_chunk
from guard.backend.vllm.acceptance.steps import Pending, Steps
from guard.proto.openai import Route, decode_chunk, parse_request
from guard.proto.rewrite import ChunkRewriter
from guard.proto.sse import SseParser
from guard.wire import SpeculativeDecoding

COMPLETION = (
    'data: {"id":"c","object":"text_completion","created":1,"model":"m","choices":[{"index":%d,"text":" a",'
    '"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}\n\n'
)
CHAT = (
    'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
    '"delta":{"content":"a"},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
)
ROLE = CHAT.replace('{"content":"a"}', '{"role":"assistant","content":""}')
USAGE = 'data: {"id":"c","choices":[],"usage":{"total_tokens":3},"metrics":{"speculative_decoding":{"x":1}}}\n\n'
STEPS = '"metrics":{"speculative_decoding":{"per_step_accepted":[2,0],"per_step_drafted":[3,0]}}'


def waiting(*choices: int) -> Pending:
    pending = Pending()
    for choice in choices:
        pending.add(choice, Steps([2, 0], [3, 0]))
    return pending


def data(event: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.split("data: ", 1)[1])
    return found


@pytest.mark.parametrize("event", [COMPLETION % 0, CHAT], ids=["completion", "chat"])
def test_steps_stand_last_and_all_else_stays(event: str) -> None:
    pending = waiting(0)
    out = into_openai_chunk(event, pending)
    assert out == event.replace("}\n\n", f",{STEPS}}}\n\n")
    assert not pending
    assert into_openai_chunk(event, pending) == event


def test_each_choice_takes_its_own() -> None:
    pending = waiting(1, 12)
    assert into_openai_chunk(COMPLETION % 0, pending) == COMPLETION % 0
    assert STEPS in into_openai_chunk(COMPLETION % 12, pending)
    assert pending.take(12) is None
    assert pending.take(1) is not None


@pytest.mark.parametrize("event", [ROLE, USAGE, 'data: {"error":{"code":500}}\n\n', "data: [DONE]\n\n", ": ping\n\n"])
def test_events_without_tokens_of_a_choice_take_none(event: str) -> None:
    pending = waiting(0)
    assert into_openai_chunk(event, pending) == event
    assert pending


def test_text_that_looks_like_a_key_misleads_nobody() -> None:
    said = json.dumps('"choices":[{"index":7,"metrics":{}}]}\n\n')
    event = (COMPLETION % 0).replace('" a"', said).replace('"model":"m"', f'"model":{said}')
    pending = waiting(0)
    out = into_openai_chunk(event, pending)
    assert out.endswith(f",{STEPS}}}\n\n")
    assert data(out)["choices"][0]["text"] == json.loads(said)


def test_metrics_that_vllm_put_there_itself_stay() -> None:
    event = CHAT.replace('"created":1', '"created":1,"metrics":{"mean_itl_ms":3.5}')
    out = data(into_openai_chunk(event, waiting(0)))
    assert list(out)[-1] == "metrics"
    assert out["metrics"]["mean_itl_ms"] == 3.5
    assert out["metrics"]["speculative_decoding"]["per_step_accepted"] == [2, 0]


def test_the_guard_cuts_them_out_byte_for_byte() -> None:
    event = COMPLETION % 0
    (parsed,) = SseParser().feed(into_openai_chunk(event, waiting(0)).encode())
    assert parsed.data is not None
    chunk = decode_chunk(parsed.data)
    assert chunk.metrics is not None
    assert chunk.metrics.speculative_decoding == SpeculativeDecoding([2, 0], [3, 0])
    request = parse_request(Route.COMPLETIONS, b'{"prompt":"x","stream":true}')
    assert ChunkRewriter(request, engine="vllm").apply(parsed, chunk) == event.encode()


TEXT_EVENT = 'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"a"},"index":0}\n\n'
STOP_EVENT = 'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
OPEN_EVENT = 'event: content_block_start\ndata: {"type":"content_block_start","index":0}\n\n'


@pytest.mark.parametrize("event", [TEXT_EVENT, STOP_EVENT])
def test_anthropic_events_with_text_or_the_stop_reason_take_them(event: str) -> None:
    pending = waiting(0)
    assert into_anthropic_event(event, pending) == event.replace("}\n\n", f",{STEPS}}}\n\n")
    assert into_anthropic_event(event, pending) == event


def test_other_anthropic_events_do_not() -> None:
    pending = waiting(0)
    assert into_anthropic_event(OPEN_EVENT, pending) == OPEN_EVENT
    assert pending
