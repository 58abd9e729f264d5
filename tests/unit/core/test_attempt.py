"""One attempt: accounting, ends of choices, what makes a text fragile."""

from __future__ import annotations

import json

import pytest

from guard.core.attempt import Attempt
from guard.core.factory import Shown, ask, make_attempt
from guard.core.settings import ExchangeSettings, Target
from guard.errors import ProtocolError
from guard.policy.judge import Judge
from guard.proto.client import ClientRequest
from guard.proto.openai import Route, parse_request
from guard.types import ReplicaId, RequestId
from tests.unit.core.transcript import chunk, policy


def attempt() -> Attempt:
    settings = ExchangeSettings(request_id=RequestId("r1"), judge=Judge(policy()), nonce="r1")
    request = parse_request(Route.CHAT, b'{"messages": [{"role": "user", "content": "x"}], "stream": true}')
    return made_for(request, settings, Target(ReplicaId("a"), "vllm"))


def made_for(request: ClientRequest, settings: ExchangeSettings, target: Target) -> Attempt:
    shown = Shown()
    return make_attempt(request, settings, ask(request, settings, target, number=1, mode="first", shown=shown), shown)


def feed(made: Attempt, *pieces: bytes) -> None:
    for piece in pieces:
        for event in made.feed(piece):
            made.judge(event, watch=True)


def delta(**fields: object) -> bytes:
    body = {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def test_steps_and_tokens_are_accounted() -> None:
    made = attempt()
    feed(made, chunk("a"), chunk("<doubt>"))
    assert made.record.accepted == [2, 1]
    assert made.record.drafted == [2, 2]
    assert made.hold.tokens == made.record.tokens


def test_all_choices_must_end() -> None:
    made = attempt()
    assert not made.finish_reasons_complete
    feed(made, chunk("a"))
    assert not made.finish_reasons_complete
    feed(made, chunk("b", finish="stop"))
    assert made.finish_reasons_complete


def test_an_event_cut_in_two_is_pending_until_it_ends() -> None:
    made = attempt()
    piece = chunk("hello")
    feed(made, piece[:20])
    assert made.pending == piece[:20]
    feed(made, piece[20:])
    assert made.pending == b""
    assert made.record.accepted == [2]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"content": "x"}, ""),
        ({"reasoning_content": "x"}, "reasoning"),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, "tool call"),
    ],
)
def test_what_makes_a_text_fragile(fields: dict[str, object], says: str) -> None:
    made = attempt()
    feed(made, delta(**fields))
    assert bool(made.fragile) == bool(says)
    assert says in made.fragile


def test_a_bad_event_is_named_by_its_number() -> None:
    made = attempt()
    feed(made, chunk("a"), chunk("b"))
    with pytest.raises(ProtocolError, match="event 3"):
        feed(made, b"data: nope\n\n")


def test_unwatched_events_are_still_accounted() -> None:
    made = attempt()
    for event in made.feed(chunk("<bad>")):
        judged = made.judge(event, watch=False)
    assert judged.verdict.suspicion == 0.0
    assert made.record.accepted == [0]


def test_what_waits_for_the_next_chunk_is_judged_when_none_will_come() -> None:
    settings = ExchangeSettings(request_id=RequestId("r1"), judge=Judge(policy()), nonce="r1")
    request = parse_request(Route.CHAT, b'{"messages": [{"role": "user"}], "stream": true, "stop": ["zz"]}')
    made = made_for(request, settings, Target(ReplicaId("a"), "llama.cpp"))
    chunks = [
        {"choices": [{"delta": {"content": said}}], "timings": {"predicted_n": at}} for at, said in enumerate("ab", 1)
    ]
    feed(made, *(b"data: " + json.dumps(said).encode() + b"\n\n" for said in chunks))
    assert made.record.tokens == 1
    made.settle(watch=True)
    assert made.record.tokens == 2
    assert "".join(held.text for held in made.hold.flush()) == "ab"
    made.settle(watch=True)
    assert made.last_events() == []
