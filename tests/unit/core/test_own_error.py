"""What a backend says after an error event of its own is passed on until it ends by itself."""

from __future__ import annotations

import pytest

from guard.core.events import ClientGone, UpstreamFailed
from guard.core.record import Outcome
from guard.errors import UpstreamError
from guard.proto.sse import MAX_EVENT_BYTES
from tests.unit.core.transcript import BAD, DONE, DOUBT, FULL, Client, chunk, policy

ERROR = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'


def failed(*rest: bytes, client: Client | None = None) -> Client:
    """A stream whose backend said something, then its error event, then the rest."""
    client = client or Client(policy())
    client.head()
    client.data(chunk("Some "), ERROR, *rest)
    return client


@pytest.mark.parametrize("rest", [[DONE], [DONE[:5], DONE[5:]], [b": bye\n\n" + DONE], [ERROR, DONE]])
def test_what_follows_passes_as_it_came(rest: list[bytes]) -> None:
    client = failed(*rest)
    assert client.sent.endswith(ERROR + b"".join(rest))
    assert client.finished == []
    client.end()
    assert client.finished == [True]
    assert client.aborted == []
    assert client.exchange.record.outcome is Outcome.UPSTREAM_ERROR
    assert client.exchange.record.attempts[0].fault == "status"


def test_it_passes_too_where_it_came_in_one_piece_with_the_error() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("Some ") + ERROR + DONE)
    assert client.sent.endswith(ERROR + DONE)


def test_an_event_too_large_at_the_very_end_ends_the_stream_all_the_same() -> None:
    client = failed(b": bye\n\n" + b"data: " + b"x" * MAX_EVENT_BYTES)
    client.end()
    assert client.sent.endswith(ERROR + b": bye\n\n")
    assert (client.finished, client.aborted) == ([True], [])
    assert client.exchange.record.attempts[0].fault == "status"


def test_an_event_that_the_end_of_the_body_completes_passes() -> None:
    client = failed(b"data: [DONE]\r\r")
    client.end()
    assert client.sent.endswith(ERROR + b"data: [DONE]\r\r")
    assert client.finished == [True]


def test_an_error_event_that_the_end_of_the_body_completes_passes() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk("Some "), ERROR[:-2] + b"\r\r")
    client.end()
    assert client.sent.endswith(ERROR[:-2] + b"\r\r")
    assert client.finished == [True]
    assert client.aborted == []


def test_text_that_follows_lacks_what_the_guard_asked_for() -> None:
    client = failed(chunk("more"), DONE)
    client.end()
    assert client.text == "Some more"
    assert b"speculative_decoding" not in client.sent
    assert client.exchange.record.tokens_burned == 0


def test_bad_text_that_follows_is_not_shown_and_ends_the_stream() -> None:
    client = failed(chunk(BAD), DONE)
    assert client.text == "Some "
    assert client.finished == [True]
    assert client.aborted == [1]
    assert client.attempt == 1


@pytest.mark.parametrize("client", [Client(policy()), Client(policy(hold=FULL))])
def test_doubtful_text_waits_and_is_shown_when_the_body_ends(client: Client) -> None:
    failed(chunk(DOUBT), client=client)
    assert client.text == "Some "
    client.end()
    assert client.text == "Some " + DOUBT


@pytest.mark.parametrize("rest", [b"data: {broken\n\n", b"data: " + b"x" * 9_000_000])
def test_what_is_no_event_ends_the_stream(rest: bytes) -> None:
    client = failed(rest)
    assert client.sent.endswith(ERROR)
    assert client.finished == [True]
    assert client.aborted == [1]


def test_text_held_before_what_is_no_event_is_the_clients() -> None:
    client = failed(chunk("more "), b"data: {broken\n\n", client=Client(policy(hold=FULL)))
    assert client.text == "Some more "


@pytest.mark.parametrize("kind", ["reset", "timeout"])
def test_a_connection_that_breaks_afterwards_adds_nothing(kind: str) -> None:
    client = failed()
    client.give(UpstreamFailed(1, UpstreamError(kind, "it broke")))
    assert client.sent.endswith(ERROR)
    assert client.finished == [True]
    assert client.aborted == []
    assert client.exchange.record.attempts[0].fault == "status"


def test_a_client_that_leaves_then_aborts_once_and_had_a_failure() -> None:
    client = failed()
    client.give(ClientGone())
    assert client.aborted == [1]
    assert client.exchange.record.outcome is Outcome.UPSTREAM_ERROR


def test_an_answer_asked_for_whole_is_aborted_at_the_error() -> None:
    client = failed(client=Client(policy(), stream=False))
    assert client.aborted == [1]
    assert client.status == 500
