"""Answers of a suspect replica: less evidence is enough, if a retry can follow, and it charges nobody."""

from __future__ import annotations

import msgspec
import pytest

from guard.core.record import Outcome
from guard.core.wary import GRACE
from guard.policy.schema import HoldBack, HoldMode, Retry
from guard.types import Action, Kind
from tests.unit.core.transcript import BAD, DONE, DOUBT, FULL, Client, chunk, policy

WHY = "5 of 22 answers bad, 0 of 199 elsewhere"
#: Of a chunk that keeps all of its draft.
TOKENS = 3
OFF = HoldBack(mode=HoldMode.OFF)


def answer(client: Client, *texts: str) -> None:
    client.head()
    client.data(*(chunk(text) for text in texts), chunk("", finish="stop"), DONE)


def go_on(client: Client) -> None:
    answer(client, "all", " well")
    client.end()


def test_what_is_a_doubt_elsewhere_is_a_retry_here() -> None:
    client = Client(policy(hold=FULL), why=WHY)
    answer(client, "some", DOUBT, " more")
    assert client.opened[1:], "tried again at the end, though the policy itself never acted"
    go_on(client)
    assert client.text == "all well"
    assert client.error is None
    assert client.finished == [True]
    first, second = client.exchange.record.attempts
    assert client.exchange.record.outcome is Outcome.RESCUED
    assert (first.verdict, first.kind, first.doubted, first.suspected) == ("retry", Kind.GARBLED, True, WHY)
    assert (second.verdict, second.doubted, second.suspected) == ("pass", False, "")


@pytest.mark.parametrize("why", [None, ""])
def test_above_suspicion_it_passes(why: str | None) -> None:
    client = Client(policy(hold=FULL), why=why)
    answer(client, "some", DOUBT, " more")
    client.end()
    assert client.text == f"some{DOUBT} more"
    assert len(client.opened) == 1
    assert not client.exchange.record.attempts[0].suspected


def test_a_suspicion_that_comes_while_the_answer_is_made_counts() -> None:
    client = Client(policy(hold=FULL), why="")
    client.head()
    client.data(chunk("some"), chunk(DOUBT), chunk(" more"))
    client.why = WHY
    client.data(chunk("", finish="stop"), DONE)
    assert len(client.opened) == 2
    assert client.exchange.record.attempts[0].suspected == WHY


def test_the_policy_has_the_last_word_and_its_verdict_is_its_own() -> None:
    client = Client(policy(hold=FULL), why=WHY)
    client.head()
    client.data(chunk("some"), chunk(DOUBT), chunk(BAD))
    assert client.aborted == [1]
    first = client.exchange.record.attempts[0]
    assert (first.verdict, first.doubted) == ("retry", False)


def test_text_waits_for_the_policy_to_follow_and_no_longer_than_that() -> None:
    client = Client(policy(), why=WHY)
    client.head()
    client.data(chunk("some"), chunk(DOUBT))
    assert client.text == "some"
    for count in range(1, GRACE // TOKENS):
        client.data(chunk(" more"))
        assert client.opened[1:] == [], count
    assert client.text == "some", "what came after the doubt is held"
    client.data(chunk(" more"))
    assert client.aborted == [1]
    assert client.opened[1]["messages"][-1]["content"] == "some", "continued where the client's text ends"


def test_a_retry_that_cannot_follow_is_not_asked_for() -> None:
    """Each of these would end a good answer with an error if the alarm is a false one."""
    last = Client(policy(hold=FULL, attempts=1), why=WHY)
    broke = Client(policy(hold=FULL), why=WHY)
    broke.exchange.room = lambda: False
    several = Client(policy(hold=OFF), why=WHY, n=2)
    for client in (last, broke, several):
        answer(client, "some", DOUBT, " more")
        client.end()
        assert client.text == f"some{DOUBT} more"
        assert client.error is None
        assert client.aborted == []
        assert client.exchange.record.outcome is Outcome.HEALTHY
        assert not client.exchange.record.attempts[0].doubted


def test_more_bad_text_than_may_stand_is_not_continued_either() -> None:
    strict = msgspec.structs.replace(policy(hold=OFF), retry=Retry(max_bad_shown=0))
    client = Client(strict, why="")
    client.head()
    client.data(chunk("some"), chunk(DOUBT), chunk(" more"))
    client.why = WHY
    client.data(chunk(" and"), chunk(" more", finish="stop"), DONE)
    client.end()
    assert client.text == f"some{DOUBT} more and more"
    assert client.exchange.record.outcome is Outcome.HEALTHY


def test_once_it_could_not_be_mended_text_no_longer_waits() -> None:
    client = Client(policy(), why=WHY)
    client.exchange.room = lambda: False
    client.head()
    client.data(chunk("some"), chunk(DOUBT), *[chunk(".")] * GRACE)
    assert client.text == f"some{DOUBT}" + "." * GRACE
    client.data(chunk(BAD))
    assert client.exchange.record.attempts[0].verdict == "retry", "the policy itself goes on judging"


def test_an_answer_not_streamed_is_tried_again_from_its_beginning() -> None:
    client = Client(policy(), stream=False, why=WHY)
    answer(client, "some", DOUBT, " more")
    assert len(client.opened) == 2
    go_on(client)
    assert b"all well" in client.sent


@pytest.mark.parametrize("action", [Action.CUT, Action.NOTE])
def test_rules_that_do_not_retry_ask_for_all_the_evidence(action: Action) -> None:
    client = Client(policy(action, hold=FULL), why=WHY)
    answer(client, "some", DOUBT, " more")
    client.end()
    assert client.text == f"some{DOUBT} more"


def test_kinds_that_speak_of_the_prompt_are_left_to_the_policy() -> None:
    made = policy(hold=FULL)
    loops = msgspec.structs.replace(made, rules=(msgspec.structs.replace(made.rules[0], kind=Kind.REPETITION),))
    client = Client(loops, why=WHY)
    answer(client, "some", DOUBT, " more")
    client.end()
    assert client.text == f"some{DOUBT} more"
