"""Deliveries: the head once, nothing that looks whole after a failure."""

from __future__ import annotations

import json

from guard.core.delivery import StreamDelivery, WholeDelivery, plain_error
from guard.core.events import SendBody, SendHead
from guard.core.failure import Failure
from guard.core.holdback import Held
from guard.core.record import ExchangeRecord
from guard.proto.openai import CHAT, Route, parse_request
from guard.proto.responses import RESPONSES
from tests.unit.core.transcript import DONE, chunk
from tests.unit.proto.streams import named, response

HEAD = (("content-type", "text/event-stream"), ("x-backend", "b"), ("content-length", "5"))
FAILURE = Failure(502, "guard_exhausted", "no attempt was good")


def record() -> ExchangeRecord:
    return ExchangeRecord("r", "/v1/chat/completions", "m", "p", stream=True)


def held(text: str) -> Held:
    return Held(chunk(text), text, 1, 1)


def test_the_head_goes_before_the_first_bytes_and_once() -> None:
    delivery = StreamDelivery(CHAT, "p")
    first = delivery.send([held("a")], HEAD)
    assert isinstance(first[0], SendHead)
    headers = dict(first[0].headers)
    assert headers["x-backend"] == "b"
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers
    assert [type(c) for c in delivery.send([held("b")], HEAD)] == [SendBody]
    assert delivery.text_released


def test_a_chunk_that_vanished_sends_nothing() -> None:
    assert StreamDelivery(CHAT, "p").send([Held(b"", "", 0, 0)], HEAD) == []


def test_complete_puts_the_account_before_the_terminal_event() -> None:
    delivery = StreamDelivery(CHAT, "p")
    delivery.send([held("a")], HEAD)
    (body,) = delivery.complete(DONE, HEAD, record())
    assert isinstance(body, SendBody)
    assert body.data.startswith(b": guard {")
    assert body.data.endswith(DONE)


def test_failure_in_a_stream_is_an_event_and_before_it_a_plain_error() -> None:
    early = StreamDelivery(CHAT, "p").fail(FAILURE, record())
    assert isinstance(early[0], SendHead)
    assert early[0].status == 502
    late = StreamDelivery(CHAT, "p")
    late.send([held("a")], HEAD)
    (body,) = late.fail(FAILURE, record())
    assert isinstance(body, SendBody)
    assert b'"code":"guard_exhausted"' in body.data
    assert b"[DONE]" not in body.data


def test_an_error_event_is_told_what_the_client_had_last_comments_aside() -> None:
    delivery = StreamDelivery(RESPONSES, "p")
    for number in (6, 7):
        event = named(response("output_text.delta", sequence_number=number, delta="a"))
        delivery.send([Held(event, "a", 1, 1)], HEAD)
    delivery.send([Held(b": ping\n\n", "", 0, 0)], HEAD)
    (body,) = delivery.fail(FAILURE, record())
    assert isinstance(body, SendBody)
    assert b'"sequence_number":8' in body.data


def test_whole_gathers_and_restart_forgets() -> None:
    request = parse_request(Route.CHAT, b'{"messages": []}')
    delivery = WholeDelivery(request, "p", 2**20)
    assert delivery.send([held("bad")], HEAD) == []
    delivery.begin("vllm")
    delivery.send([held("good"), Held(chunk("", finish="stop"), "", 0, 1)], HEAD)
    head, body = delivery.complete(DONE, HEAD, record())
    assert isinstance(head, SendHead)
    assert dict(head.headers)["content-type"] == "application/json"
    assert isinstance(body, SendBody)
    assert json.loads(body.data)["choices"][0]["message"]["content"] == "good"


def test_a_plain_error_tells_sdks_not_to_repeat() -> None:
    head, body = plain_error(CHAT, FAILURE, record(), "p")
    assert isinstance(head, SendHead)
    assert dict(head.headers)["x-should-retry"] == "false"
    assert isinstance(body, SendBody)
    assert json.loads(body.data)["error"]["code"] == "guard_exhausted"


def test_an_answer_put_together_loses_nothing_to_line_ends() -> None:
    for ends in (b"\n", b"\r\n", b"\r"):
        delivery = WholeDelivery(parse_request(Route.CHAT, b"{}"), "p", 1000)
        for text in ("a", "b", "c"):
            delivery.send([Held(chunk(text).replace(b"\n", ends), text, 1, 1)], HEAD)
        _, body = delivery.complete(DONE.replace(b"\n", ends), HEAD, record())
        assert isinstance(body, SendBody)
        assert json.loads(body.data)["choices"][0]["message"]["content"] == "abc"
