"""What is sent, and how an exchange ends: the two accounts add up whatever the way."""

from __future__ import annotations

import pytest

from guard.core.events import ClientGone, UpstreamFailed
from guard.core.outgoing import MAX_MODEL, Outgoing
from guard.errors import UpstreamError
from guard.types import Action
from tests.unit.core.transcript import BAD, DONE, DOUBT, FULL, Client, chunk, policy

END = chunk("", finish="stop")


def test_an_exchange_is_what_it_sends() -> None:
    assert isinstance(Client(policy()).exchange, Outgoing)


def test_of_a_model_name_without_end_only_a_beginning_is_kept() -> None:
    """A thousand records of 64 MiB each would be a way to fill the memory."""
    client = Client(policy(), model="m" * 100_000)
    assert client.exchange.record.model == "m" * MAX_MODEL
    assert client.opened[0]["model"] == "m" * 100_000  # the backend's to judge


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("ending", ["whole", "cut", "exhausted", "gone", "lost", "passed"])
def test_every_token_is_shown_or_burned(stream: bool, ending: str) -> None:
    action = Action.CUT if ending == "cut" else Action.NOTE if ending == "passed" else Action.RETRY
    client = Client(policy(action, attempts=1 if ending == "exhausted" else 2), stream=stream)
    client.head()
    client.data(chunk("One "), chunk("two "), chunk(DOUBT))
    if ending in ("cut", "exhausted", "passed"):
        client.data(chunk(BAD))
    if ending == "gone":
        client.give(ClientGone())
    if ending == "lost":
        client.give(UpstreamFailed(1, UpstreamError("reset", "it broke")))
        client.head()
        client.data(chunk("three "))
    if ending in ("whole", "lost", "passed"):
        client.data(END, DONE)
        client.end()
    record = client.exchange.record
    assert client.exchange.done
    made = sum(attempt.tokens for attempt in record.attempts)
    assert made >= 3
    assert record.tokens_shown + record.tokens_burned == made
    assert record.tokens_burned == sum(attempt.tokens_burned for attempt in record.attempts)
    assert record.tokens_shown == sum(attempt.tokens_shown for attempt in record.attempts)


def test_a_client_that_left_before_its_one_body_was_shown_nothing() -> None:
    client = Client(policy(hold=FULL), stream=False)
    client.head()
    client.data(chunk("One "), chunk("two "))
    client.give(ClientGone())
    record = client.exchange.record
    assert (record.tokens_shown, record.tokens_burned) == (0, 6)
    assert record.attempts[0].burned_by == "left"
