"""Ids under which SGLang knows an attempt."""

from __future__ import annotations

import json

import pytest

from guard.core.engine_id import NO_ID, EngineId, engine_id, given_ids, unmarked
from guard.proto.openai import Route, parse_request
from guard.proto.responses import RESPONSES
from guard.proto.sglang import GENERATE
from guard.proto.sse import SseParser
from guard.types import RequestId

MARK = b"-02abc"


def known(number: int, *, engine: str = "sglang", **fields: object) -> EngineId:
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}
    return engine_id(parse_request(Route.CHAT, json.dumps(body).encode()), engine, RequestId("abc"), number)


def test_without_the_clients_an_attempt_has_an_id_of_the_guards_own() -> None:
    assert known(1) == ("01abc", "01abc", b"")
    assert known(2) == ("02abc", "02abc", b"")
    assert known(2, n=2) == NO_ID


def test_the_clients_own_is_left_alone_at_first_and_marked_in_a_retry() -> None:
    assert known(1, rid="mine") == NO_ID
    assert known(2, rid="mine") == ("mine-02abc", "mine-02abc", MARK)
    assert known(12, rid="mine").sent == "mine-12abc"
    assert known(2, rid="mine", n=2) == ("mine-02abc", "", MARK), "the engine makes several of it"


def test_each_of_a_batch_is_marked() -> None:
    body = json.dumps({"text": ["a", "b"], "rid": ["x", "y"]}).encode()
    request = GENERATE.parse("/generate", body)
    assert engine_id(request, "sglang", "abc", 1) == NO_ID
    assert engine_id(request, "sglang", "abc", 2) == (["x-02abc", "y-02abc"], "", MARK)


@pytest.mark.parametrize(
    ("rid", "found"), [("x", ["x"]), (["x", "y"], ["x", "y"]), (None, []), (7, []), (["x", 1], []), ({"a": "b"}, [])]
)
def test_the_clients_own_ids(rid: object, found: list[str]) -> None:
    assert given_ids(GENERATE.parse("/generate", json.dumps({"text": ["a", "b"], "rid": rid}).encode())) == found
    assert given_ids(GENERATE.parse("/generate", b'{"text": "a"}')) == []
    assert given_ids(RESPONSES.parse("/v1/responses", b'{"input": "hi", "rid": "mine"}')) == [], "it has no such field"


@pytest.mark.parametrize("rid", [None, 7, ["x", None], {"a": "b"}])
def test_what_is_no_id_is_the_engines_to_judge(rid: object) -> None:
    assert known(2, rid=rid) == NO_ID


def test_other_engines_and_routes_are_given_none() -> None:
    assert known(2, engine="vllm", rid="mine") == NO_ID
    assert known(2, engine="llama.cpp") == NO_ID
    responses = RESPONSES.parse("/v1/responses", b'{"input": "hi", "rid": "mine"}')
    assert engine_id(responses, "sglang", "abc", 2) == NO_ID


def test_the_mark_goes_out_of_events_and_nothing_else_does() -> None:
    events = SseParser(max_event_bytes=1000).feed(
        b': a\n\ndata: {"id": "m-02abc_1"}\n\ndata: {"t": "02abc -03abc"}\n\n'
    )
    clean = unmarked(events, MARK)
    assert [event.data for event in clean] == [None, b'{"id": "m_1"}', b'{"t": "02abc -03abc"}']
    assert b"".join(event.raw for event in clean) == b"".join(event.raw for event in events).replace(MARK, b"")
