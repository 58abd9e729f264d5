"""Whole answers: what only the backend can give at once, and the second look at what was put together unsurely."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.core.events import ClientGone, UpstreamFailed, UpstreamHead
from guard.core.holdback import MAX_HELD_BYTES
from guard.core.record import Outcome
from guard.errors import UpstreamError
from guard.policy.schema import Policy
from guard.shipped import find_policy
from tests.unit.core.transcript import DONE, Client, chunk, policy

JSON = (("content-type", "application/json"), ("x-backend", "b"))
LOOP = "The cat sat on the mat. " * 60
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {}}}
#: As vLLM streams a call that the token limit cuts off: tokens of which nothing is said.
CUT_CALL = (
    chunk("Hello "),
    chunk("", choices=[{"index": 0, "delta": {}, "finish_reason": None, "token_ids": [5]}]),
    chunk("", choices=[{"index": 0, "delta": {}, "finish_reason": "length", "token_ids": [6]}]),
    DONE,
)


def answer(text: str, tokens: int = 0) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
    return json.dumps({"choices": [choice], "usage": {"completion_tokens": tokens or len(text) // 4}}).encode()


def ask(judged: Policy | None = None, **fields: Any) -> Client:
    """What only llama.cpp itself can give whole."""
    return Client(judged or find_policy("text-only"), stream=False, engine="llama.cpp", logprobs=True, **fields)


def replies(client: Client, body: bytes, *, status: int = 200) -> None:
    client.give(UpstreamHead(client.attempt, status, JSON))
    client.data(body[: len(body) // 2], body[len(body) // 2 :])
    client.end()


def cut_call(**fields: Any) -> Client:
    """A first answer is put together, and is not sure."""
    client = Client(find_policy("text-only"), stream=False, engine="vllm", tools=[TOOL], **fields)
    client.head()
    client.data(*CUT_CALL)
    return client


def test_the_backends_own_body_passes_byte_for_byte_and_nothing_was_switched_on() -> None:
    client = ask()
    assert client.opened == [
        {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False, "logprobs": True}
    ]
    replies(client, answer("All is well."))
    assert client.sent == answer("All is well.")
    assert (client.status, client.headers["x-backend"], client.headers["x-guard-verdict"]) == (200, "b", "healthy")
    assert client.finished == [True]
    assert client.exchange.record.tokens_shown > 0


def test_a_bad_one_is_never_shown_and_the_next_attempt_is() -> None:
    client = ask()
    replies(client, answer(LOOP))
    assert (client.sent, client.attempt) == (b"", 2)
    assert client.opened[1]["stream"] is False
    assert client.opened[1] != client.opened[0]  # the changes of a retry
    replies(client, answer("All is well."))
    assert client.sent == answer("All is well.")
    assert client.aborted == []
    record = client.exchange.record
    assert record.outcome is Outcome.RESCUED
    assert record.tokens_burned == record.attempts[0].tokens > 0


def test_when_all_are_bad_the_client_gets_an_error() -> None:
    client = ask()
    while not client.finished:
        replies(client, answer(LOOP))
    assert client.status == 502
    assert client.error is not None
    assert client.error["code"] == "guard_exhausted"


def test_a_policy_that_only_notes_lets_it_pass() -> None:
    client = ask(find_policy("observe"))
    replies(client, answer(LOOP))
    assert client.sent == answer(LOOP)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_a_fault_and_tried_again(body: bytes) -> None:
    client = ask()
    replies(client, body)
    assert client.attempt == 2
    assert client.exchange.record.attempts[0].fault == "protocol"


def test_several_choices_are_each_judged() -> None:
    client = ask(n=2)
    choices = [{"index": at, "message": {"content": text}} for at, text in enumerate(("Well.", LOOP))]
    replies(client, json.dumps({"choices": choices, "usage": {"completion_tokens": 400}}).encode())
    assert client.attempt == 2
    assert client.exchange.record.attempts[0].kind == "repetition"


def test_an_answer_larger_than_the_guard_keeps_goes_on_as_it_comes() -> None:
    client = ask()
    client.give(UpstreamHead(1, 200, JSON))
    client.data(b"x" * MAX_HELD_BYTES)
    assert client.sent == b""
    client.data(b"y", b"z")
    client.end()
    assert client.sent == b"x" * MAX_HELD_BYTES + b"yz"
    assert client.exchange.record.outcome is Outcome.RELAYED


def test_tokens_of_an_answer_put_together_are_not_shown_when_the_one_asked_for_again_is_too_large_to_keep() -> None:
    client = cut_call()
    client.give(UpstreamHead(2, 200, JSON))
    client.data(b"x" * (MAX_HELD_BYTES + 1))
    client.end()
    record = client.exchange.record
    assert (record.outcome, client.finished) == (Outcome.RELAYED, [True])
    assert (record.tokens_shown, record.tokens_burned) == (0, record.attempts[0].tokens)


def test_what_the_backend_encoded_is_relayed() -> None:
    client = ask()
    client.give(UpstreamHead(1, 200, (*JSON, ("content-encoding", "gzip"))))
    client.data(b"\x1f\x8b")
    client.end()
    assert (client.sent, client.exchange.record.outcome) == (b"\x1f\x8b", Outcome.RELAYED)


def test_a_cut_call_is_asked_for_once_more_and_the_backends_own_answer_is_given() -> None:
    client = cut_call()
    assert [body["stream"] for body in client.opened] == [True, False]
    assert (client.sent, client.aborted) == (b"", [])
    replies(client, answer("Hello <tool_call>{", tokens=7))
    assert client.sent == answer("Hello <tool_call>{", tokens=7)
    record = client.exchange.record
    assert [attempt.mode for attempt in record.attempts] == ["first", "whole"]
    assert (record.outcome, record.tokens_shown) == (Outcome.HEALTHY, 7)
    assert record.second_look == "the end may have cut a tool call"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_second_look_that_fails_leaves_the_answer_put_together(status: int) -> None:
    client = cut_call()
    client.give(UpstreamHead(2, status, JSON))
    assert json.loads(client.sent)["choices"][0]["message"]["content"] == "Hello "
    assert (client.status, client.aborted, client.finished) == (200, [2], [True])


def test_a_second_look_that_breaks_off_or_is_bad_leaves_it_too() -> None:
    for spoil in (
        lambda client: client.give(UpstreamFailed(2, UpstreamError("connect", "no route"))),
        lambda client: replies(client, b"{"),
        lambda client: replies(client, answer(LOOP)),
    ):
        client = cut_call()
        spoil(client)
        assert json.loads(client.sent)["choices"][0]["message"]["content"] == "Hello "
        assert client.finished == [True]
        assert client.exchange.record.attempts[0].tokens_shown == client.exchange.record.tokens_shown


def test_a_second_look_that_the_budget_refuses_leaves_it_too() -> None:
    client = cut_call(retries=0)
    assert json.loads(client.sent)["choices"][0]["message"]["content"] == "Hello "
    assert client.finished == [True]


def test_a_refusal_of_the_request_is_the_backends_own_answer() -> None:
    client = cut_call()
    replies(client, b'{"error": "no object"}', status=400)
    assert (client.status, client.sent) == (400, b'{"error": "no object"}')


def test_the_client_may_leave_meanwhile() -> None:
    client = cut_call()
    client.give(ClientGone())
    assert (client.sent, client.aborted, client.finished) == (b"", [2], [True])


def test_there_is_none_for_a_stream_nor_where_it_is_switched_off() -> None:
    streamed = Client(find_policy("text-only"), engine="vllm", tools=[TOOL])
    streamed.head()
    streamed.data(*CUT_CALL)
    assert streamed.attempt == 1
    off = Client(policy(), stream=False, engine="vllm", tools=[TOOL], second_look=False)
    off.head()
    off.data(*CUT_CALL)
    assert (off.attempt, off.finished) == (1, [])
    assert json.loads(off.sent)["choices"][0]["message"]["content"] == "Hello "
