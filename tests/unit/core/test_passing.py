"""Plain chunks pass at once, and nothing of the account is lost whatever comes after them."""

from __future__ import annotations

import pytest

from guard.core.events import ClientGone, Observed, UpstreamData, UpstreamFailed
from guard.core.passing import MOST_PASSED
from guard.core.record import Outcome
from guard.errors import UpstreamError
from guard.policy.schema import HoldBack
from guard.types import Action
from tests.unit.core.transcript import BAD, DONE, FULL, WINDOW_8, Client, policy
from tests.unit.core.transcript import chunk as spaced
from tests.unit.proto import test_plain


def chunk(text: str, accepted: int = 3, tokens: int = 3) -> bytes:
    """Any of the policy's suspicion is the share of the draft that was rejected."""
    return test_plain.chunk(text, accepted, tokens)


def begun(hold: HoldBack | None = None, **fields: object) -> Client:
    client = Client(policy(Action.RETRY, hold=hold), **fields)
    client.head()
    client.data(chunk("once "))
    return client


def tokens(client: Client) -> int:
    return client.exchange.record.attempts[0].tokens


def test_they_are_sent_at_once_and_accounted_for_a_few_at_a_time() -> None:
    client = begun()
    behind = 0
    for number in range(1, 14):
        client.data(chunk(f"w{number} "))
        assert client.text.endswith(f"w{number} ")
        behind = max(behind, 3 * (number + 1) - tokens(client))
    assert behind == 3 * MOST_PASSED, "or nothing passed"
    client.data(spaced("", finish="stop"), DONE)
    client.end()
    (attempt,) = client.exchange.record.attempts
    assert attempt.tokens == attempt.tokens_shown == client.exchange.record.tokens_shown == 3 * 14
    assert (attempt.accepted, attempt.drafted) == ([3] * 14, [3] * 14)
    assert client.text == "once " + "".join(f"w{number} " for number in range(1, 14))
    assert client.sent.count(b'"token_ids":null') == 14
    assert b"metrics" not in client.sent
    assert client.finished == [True]


def test_a_step_that_kept_nothing_is_judged_before_it_is_sent() -> None:
    client = begun()
    client.data(chunk("good "), chunk("so "), chunk("bad", accepted=0, tokens=1))
    assert client.text == "once good so "
    assert client.aborted == [1]
    assert client.opened[1]["messages"][-1]["content"] == "once good so "
    assert client.exchange.record.attempts[0].tokens_shown == 9
    assert client.exchange.record.attempts[0].verdict_token == 10


def test_what_is_not_plain_is_judged_after_what_passed() -> None:
    client = begun()
    client.data(chunk("fine "), chunk("so "), spaced(BAD))
    assert client.text == "once fine so "
    assert client.opened[1]["messages"][-1]["content"] == "once fine so "
    record = client.exchange.record.attempts[0]
    assert (record.accepted, record.verdict_token) == ([3, 3, 3, 0], 10)


@pytest.mark.parametrize("hold", [WINDOW_8, FULL])
def test_what_is_to_be_held_never_passes(hold: HoldBack) -> None:
    client = begun(hold)
    client.data(chunk("a "), chunk("b "))
    assert tokens(client) == 9
    assert "b" not in client.text


def test_while_somebody_looks_on_every_chunk_is_told() -> None:
    client = begun()
    client.data(chunk("a "))
    client.exchange.live = True
    told = [client.give(UpstreamData(1, chunk(text))) for text in ("b ", "c ", "d ")]
    assert all(any(isinstance(command, Observed) for command in commands) for commands in told)
    assert tokens(client) == 15
    assert client.text == "once a b c d "


def test_a_client_that_leaves_has_what_passed() -> None:
    client = begun()
    client.data(chunk("a "), chunk("b "))
    client.give(ClientGone())
    record = client.exchange.record
    assert (record.outcome, record.tokens_shown, record.attempts[0].tokens) == (Outcome.CLIENT_GONE, 9, 9)
    assert client.aborted == [1]
    assert client.exchange.data(1, chunk("c "), 1.0) == []


def test_a_broken_connection_is_resumed_after_what_passed() -> None:
    client = begun()
    client.data(chunk("a "), chunk("b "))
    client.give(UpstreamFailed(1, UpstreamError("reset", "gone")))
    assert client.opened[1]["messages"][-1]["content"] == "once a b "
    assert client.exchange.record.tokens_shown == 9


def test_a_body_that_ends_without_its_end_is_resumed_too() -> None:
    client = begun()
    client.data(chunk("a "), chunk("b "))
    client.end()
    assert client.opened[1]["messages"][-1]["content"] == "once a b "


@pytest.mark.parametrize("fields", [{"n": 2}, {"stream": False}, {"return_token_ids": True}, {"engine": "text"}])
def test_who_asked_for_something_else_gets_it_the_long_way(fields: dict[str, object]) -> None:
    client = begun(**fields)
    client.data(chunk("a "))
    assert tokens(client) == 6


def test_an_event_over_the_cap_does_not_pass() -> None:
    client = begun()
    client.data(chunk("a "), chunk("x" * (9 * 1024 * 1024)))
    assert client.exchange.record.attempts[0].fault == "protocol"
    assert client.text == "once a "


def test_bytes_that_are_no_whole_event_wait_for_the_rest() -> None:
    client = begun()
    event = chunk("b ")
    client.data(chunk("a "), event[:30], event[30:] + chunk("c "), chunk("d "))
    assert client.text == "once a b c d "
    client.data(spaced("", finish="stop"), DONE)
    assert client.exchange.record.tokens_shown == 15
