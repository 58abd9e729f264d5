"""Plain chunks pass at once, and nothing of the account is lost whatever comes after them."""

from __future__ import annotations

import pytest

from guard.core.events import ClientGone, Observed, UpstreamData, UpstreamFailed
from guard.core.passing import MOST_PASSED, MOST_UNJUDGED, MOST_UNREAD
from guard.core.record import Outcome
from guard.errors import UpstreamError
from guard.policy.schema import HoldBack
from guard.shipped import find_policy
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


def watched() -> Client:
    """By the default policy; the first chunk, of 5 characters, went the long way."""
    client = Client(find_policy("default"))
    client.head()
    client.data(chunk("once "))
    return client


def test_while_nothing_can_be_suspected_chunks_pass_up_to_the_end_of_a_page_whatever_is_rejected() -> None:
    client = watched()
    for _ in range(5):
        client.data(chunk("ten bytes ", accepted=0, tokens=1))
        assert not client.exchange.due
    assert tokens(client) == 3
    client.data(chunk("the last!", accepted=0, tokens=1))
    assert client.exchange.due, "it reaches the end of the page"
    assert client.text.endswith("the last!"), "and has passed"
    assert client.exchange.look(2.0) == []
    assert (tokens(client), client.exchange.due) == (9, False)
    assert client.exchange.look(2.0) == [], "nothing is due"


def test_characters_are_counted_and_not_bytes() -> None:
    client = watched()
    letters = "".join(chr(0x4E00 + 7 * number) for number in range(56))
    for at in range(0, 56, 8):
        client.data(chunk(letters[at : at + 8], accepted=0, tokens=1))
        assert not client.exchange.due
    client.data(chunk('"\\', accepted=0, tokens=1))
    assert not client.exchange.due
    client.data(chunk("\n", accepted=0, tokens=1))
    assert client.exchange.due


def test_a_look_that_is_due_is_made_before_the_next_event() -> None:
    client = watched()
    client.data(chunk("x" * 59), chunk("y", accepted=0, tokens=1))
    assert tokens(client) == 6
    client.data(chunk("z" * 70))
    client.data(spaced("", finish="stop"), DONE)
    assert client.exchange.record.attempts[0].tokens == client.exchange.record.tokens_shown == 10
    assert client.text == "once " + "x" * 59 + "y" + "z" * 70


def judged(client: Client) -> int:
    """Tokens whose verify steps were judged."""
    return client.exchange._current().monitor.tokens(0)


def test_so_many_tokens_at_most_pass_unjudged() -> None:
    client = watched()
    steps = text = given = 0
    for letter in "it goes on, a letter each, and no page is full":
        given += 4
        client.data(chunk(letter, accepted=2, tokens=4))
        client.exchange.look(2.0)
        steps, text = max(steps, 3 + given - judged(client)), max(text, 3 + given - tokens(client))
    assert MOST_UNJUDGED - 4 <= steps <= MOST_UNJUDGED
    assert MOST_UNREAD - 8 <= text <= MOST_UNREAD, "while the draft does well, every second look leaves the text"
    client.data(chunk("b", accepted=3, tokens=30))
    assert tokens(client) == 3 + given + 30, "more at once is judged before it is sent"


def test_text_is_read_at_every_look_unless_the_draft_does_well() -> None:
    client = watched()
    for given, letter in enumerate("it goes on, a letter each, and no page is full", 1):
        client.data(chunk(letter, accepted=0, tokens=1))
        client.exchange.look(2.0)
        assert 3 + given - tokens(client) <= MOST_UNJUDGED


def test_what_passed_after_its_steps_were_judged_is_all_accounted_for() -> None:
    client = watched()
    for number in range(12):
        client.data(chunk(f"w{number} ", accepted=2, tokens=3))
        client.exchange.look(2.0)
    assert tokens(client) < judged(client), "the text waits"
    client.data(spaced("", finish="stop"), DONE)
    attempt = client.exchange.record.attempts[0]
    assert attempt.tokens == attempt.tokens_shown == judged(client) == 39
    assert (attempt.accepted, attempt.drafted) == ([3, *[2] * 12], [3] * 13)


def test_more_rejections_than_could_be_told_in_advance_are_judged_before_they_are_sent() -> None:
    client = watched()
    for number in range(60):  # the draft is known to be good
        client.data(chunk(f"{number**3} ", accepted=3, tokens=4))
        if number > 40 and client.exchange.due:
            client.exchange.look(2.0)
            break
    before, rejected = tokens(client), 0
    while tokens(client) == before:
        rejected += 1
        client.data(chunk(f"{rejected} ", accepted=0, tokens=1))
        assert not client.exchange.due
    assert 2 < rejected < 12


def test_a_look_can_end_the_attempt_between_two_chunks() -> None:
    client = watched()
    client.exchange.handle(UpstreamData(1, chunk("some words that stand before " * 3)), 1.0)
    client.data(chunk("\ufffd" * 40, accepted=0, tokens=1))
    for _ in range(8):
        client.data(chunk("\ufffd" * 40, accepted=0, tokens=1))
        if client.exchange.due:
            client._take(client.exchange.look(2.0))
        if client.aborted:
            break
    assert client.aborted == [1]
    assert client.exchange.record.attempts[0].kind == "rare_chars"
    assert client.exchange.data(1, chunk("more"), 3.0) == []
