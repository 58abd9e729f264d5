"""What lost attempts leave behind: the best of them, what a retry changes, and what a refused retry still delivers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from guard.core.events import UpstreamFailed, UpstreamHead
from guard.core.factory import ENDED, resume_blocker
from guard.core.record import Outcome
from guard.core.settings import Target
from guard.errors import UpstreamError
from guard.observe.log import exchange_fields
from guard.types import Action, Change, Kind, ReplicaId, WhenExhausted
from tests.unit.core.transcript import BAD, DONE, FULL, Client, chunk, policy

BEST = WhenExhausted.BEST
END = chunk("", finish="stop")


def fail(client: Client, kind: str = "reset") -> None:
    client.give(UpstreamFailed(client.attempt, UpstreamError(kind, "it broke")))


def finishes(client: Client) -> list[str]:
    lines = [line for line in client.sent.decode().splitlines() if line.startswith("data: {")]
    said = [choice.get("finish_reason") for line in lines for choice in json.loads(line[6:]).get("choices", [])]
    return [finish for finish in said if finish]


def attempt(client: Client, *texts: str) -> None:
    client.head()
    client.data(*map(chunk, texts))


# -- when_exhausted: best -------------------------------------------------------------------------------


def test_the_longest_healthy_part_is_delivered_and_marked() -> None:
    client = Client(policy(attempts=3, hold=FULL, exhausted=BEST))
    attempt(client, "One ", "two ", BAD)
    attempt(client, "Uno ", "due ", "tre ", BAD)
    attempt(client, "Eins ", BAD)
    record = client.exchange.record
    assert client.finished == [True]
    assert client.text == "Uno due tre "
    assert finishes(client) == ["content_filter"]
    assert client.sent.endswith(DONE)
    assert record.outcome is Outcome.BEST
    assert b'"outcome":"best"' in client.sent
    assert client.aborted == [1, 2, 3]
    assert [a.tokens_shown for a in record.attempts] == [0, 9, 0]
    assert record.tokens_shown + record.tokens_burned == sum(a.tokens for a in record.attempts)


def test_one_body_is_the_best_attempt_too() -> None:
    client = Client(policy(attempts=2, exhausted=BEST), stream=False)
    attempt(client, "One ", "two ", BAD)
    attempt(client, "Eins ", BAD)
    answer = json.loads(client.sent)
    assert client.status == 200
    assert answer["choices"][0]["message"]["content"] == "One two "
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert client.headers["x-guard-verdict"] == "best"
    assert (client.headers["x-guard-tokens-shown"], client.headers["x-guard-tokens-burned"]) == ("6", "5")


def test_a_healthy_answer_held_for_it_is_delivered_as_ever() -> None:
    client = Client(policy(attempts=2, exhausted=BEST), stream=False)
    attempt(client, "One ", BAD)
    attempt(client, "All ", "good")
    client.data(END, DONE)
    assert json.loads(client.sent)["choices"][0]["message"]["content"] == "All good"
    assert client.headers["x-guard-verdict"] == "rescued"


def test_text_that_went_out_is_ended_honestly_where_nothing_better_is_known() -> None:
    client = Client(policy(attempts=1, exhausted=BEST))
    attempt(client, "One ", "two ", BAD)
    assert client.text == "One two "
    assert finishes(client) == ["content_filter"]


def test_what_earlier_attempts_would_have_said_is_void_once_text_went_out() -> None:
    client = Client(policy(attempts=2, exhausted=BEST))
    attempt(client, "One ", BAD)  # released, then bad
    attempt(client, "two ", "three ", BAD)  # continues
    assert client.text == "One two three "
    assert finishes(client) == ["content_filter"]


def test_nothing_healthy_at_all_is_an_error() -> None:
    client = Client(policy(attempts=2, hold=FULL, exhausted=BEST))
    attempt(client, BAD)
    attempt(client, BAD)
    assert client.status == 502
    assert client.error is not None
    assert client.error["code"] == "guard_exhausted"


def test_half_a_tool_call_is_never_the_best() -> None:
    client = Client(policy(attempts=1, hold=FULL, exhausted=BEST))
    client.head()
    call: dict[str, Any] = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a'}}
    body = {"id": "c1", "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}
    client.data(b"data: " + json.dumps(body).encode() + b"\n\n", chunk(BAD))
    assert finishes(client) == []
    assert client.error is not None


def test_the_best_is_delivered_after_a_fault_as_well() -> None:
    client = Client(policy(attempts=2, hold=FULL, exhausted=BEST))
    attempt(client, "One ", "two ", BAD)
    client.head()
    fail(client)
    assert client.text == "One two "
    assert client.finished == [True]


# -- the budget -----------------------------------------------------------------------------------------


def test_a_refused_retry_ends_with_what_was_good_and_an_error() -> None:
    client = Client(policy(hold=FULL), retries=0)
    attempt(client, "One ", "two ", BAD)
    assert client.aborted == [1]
    assert client.finished == [True]
    assert client.text == "One two "
    assert client.error is not None
    assert client.error["code"] == "guard_exhausted"
    record = client.exchange.record
    assert (record.outcome, record.plan_reason, len(record.attempts)) == (Outcome.EXHAUSTED, "used up", 1)


def test_a_refused_retry_of_one_body_is_a_plain_error() -> None:
    client = Client(policy(), stream=False, retries=0)
    attempt(client, "One ", BAD)
    assert client.status == 502
    assert client.exchange.record.tokens_shown == 0
    assert client.exchange.record.tokens_burned == 4


def test_a_refused_retry_after_a_fault_tells_the_fault() -> None:
    client = Client(policy(), retries=0)
    client.head()
    fail(client, "timeout")
    assert client.status == 504
    assert client.error is not None
    assert client.error["code"] == "upstream_timeout"


@pytest.mark.parametrize("stream", [True, False])
def test_with_no_replica_to_ask_the_client_is_told_when_to_come_again(stream: bool) -> None:
    client = Client(policy(), stream=stream, replicas=0)
    assert client.status == 503
    assert client.error is not None
    assert client.error["code"] == "upstream_unavailable"
    assert client.headers["retry-after"] == "7"
    assert "x-should-retry" not in client.headers, "nothing was tried"
    record = client.exchange.record
    assert (record.outcome, record.plan_reason) == (Outcome.UPSTREAM_ERROR, "every replica is drained")
    assert exchange_fields(record)["reason"] == "every replica is drained"


def test_a_retry_that_no_replica_can_make_tells_what_the_attempt_before_was_lost_by() -> None:
    client = Client(policy(), replicas=1)
    client.head()
    fail(client, "timeout")
    assert client.status == 504
    assert client.error is not None
    assert client.error["code"] == "upstream_timeout"
    assert (client.headers["x-should-retry"], client.headers.get("retry-after")) == ("false", None)
    assert client.exchange.record.plan_reason == "every replica is drained"


def test_a_retry_that_no_replica_can_make_delivers_the_best_where_the_policy_says_so() -> None:
    client = Client(policy(hold=FULL, exhausted=BEST), replicas=1)
    attempt(client, "One ", "two ", BAD)
    assert client.text == "One two "
    assert finishes(client) == ["content_filter"]


def test_a_refused_retry_delivers_the_best_where_the_policy_says_so() -> None:
    client = Client(policy(hold=FULL, exhausted=BEST), retries=0)
    attempt(client, "One ", "two ", BAD)
    assert client.text == "One two "
    assert finishes(client) == ["content_filter"]


# -- what a retry changes -------------------------------------------------------------------------------


def test_a_verdict_changes_the_next_request_and_a_fault_does_not() -> None:
    client = Client(policy(attempts=4, hold=FULL))
    client.head()
    fail(client)
    assert "cache_salt" not in client.opened[1]
    attempt(client, BAD)
    assert client.opened[2]["cache_salt"].startswith("guard-")
    assert client.opened[2]["seed"] == 1
    client.head()
    fail(client)
    assert client.opened[3]["seed"] == 1, "a fault takes no further step"


def test_each_kind_has_its_own_changes() -> None:
    judged = msgspec.structs.replace(policy(hold=FULL), kind_changes={Kind.GARBLED: (Change.TEMPERATURE,)})
    client = Client(judged, temperature=0)
    attempt(client, BAD)
    attempt(client, BAD)
    assert [opened["temperature"] for opened in client.opened] == [0, 0.1, 0.2]
    assert "cache_salt" not in client.opened[1]


# -- faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reset", "timeout"])
def test_an_answer_that_was_read_whole_is_not_tried_again(kind: str) -> None:
    client = Client(policy())
    attempt(client, "One ")
    client.data(END)
    fail(client, kind)
    assert client.finished == [True]
    assert client.attempt == 1
    assert client.text == "One "
    assert client.error is None
    assert client.exchange.record.outcome is Outcome.HEALTHY


USAGE = b'data: {"id":"c1","choices":[],"usage":{"completion_tokens":3}}\n\n'


@pytest.mark.parametrize("rest", [b"data: [DO", USAGE[:40], b": alive", b"data: junk\n\n", USAGE + b"data: [DONE"])
@pytest.mark.parametrize("fault", ["reset", "timeout", "end"])
def test_a_text_whose_end_the_client_was_told_is_not_continued(rest: bytes, fault: str) -> None:
    """What another attempt would say, if only by chance, would stand behind the finish reason."""
    client = Client(policy())
    attempt(client, "One ")
    client.data(END, rest)
    if not client.finished:
        if fault == "end":
            client.end()
        else:
            fail(client, fault)
    assert (client.attempt, client.finished, client.error) == (1, [True], None)
    assert (client.text, finishes(client)) == ("One ", ["stop"])
    assert DONE not in client.sent
    assert client.exchange.record.outcome is Outcome.HEALTHY


def test_a_doubt_that_comes_when_the_client_was_told_the_end_continues_nothing() -> None:
    client = Client(policy(), why="left out before")
    attempt(client, "One ")
    client.data(END)
    assert resume_blocker(client.exchange._request, Target(ReplicaId("a"), "vllm"), client.exchange._shown) == ENDED


def test_one_body_that_is_cut_off_behind_its_text_is_asked_for_again() -> None:
    """Its count of tokens may be what is missing, and nothing was shown."""
    client = Client(policy(), stream=False)
    attempt(client, "One ")
    client.data(END, USAGE[:40])
    fail(client)
    assert client.attempt == 2


def test_of_two_choices_one_that_has_not_begun_is_not_complete() -> None:
    client = Client(policy(), n=2)
    attempt(client, "One ")
    client.data(END)
    fail(client)
    assert client.error is not None


def test_a_busy_replica_is_left_for_another_where_there_is_one() -> None:
    client = Client(policy())
    client.give(UpstreamHead(1, 503, (("content-type", "application/json"),), elsewhere=True))
    assert client.attempt == 2
    attempt(client, "Fine")
    client.data(END, DONE)
    assert client.text == "Fine"


@pytest.mark.parametrize(("status", "elsewhere", "attempts"), [(503, False, 3), (404, True, 3), (503, True, 1)])
def test_else_its_answer_is_the_clients(status: int, elsewhere: bool, attempts: int) -> None:
    client = Client(policy(attempts=attempts))
    client.give(UpstreamHead(1, status, (("content-type", "application/json"),), elsewhere=elsewhere))
    assert (client.attempt, client.status) == (1, status)


def test_a_cut_is_no_matter_of_retries() -> None:
    client = Client(policy(Action.CUT, exhausted=BEST))
    attempt(client, "One ", BAD)
    assert client.error is not None
    assert client.error["code"] == "guard_cut"


JSON = (("content-type", "application/json"),)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_refusal_of_the_request_is_the_clients_after_a_fault_too(status: int, stream: bool) -> None:
    """A dead replica must not turn the client's own mistake into a fault of the backend, tried again and again."""
    client = Client(policy(), stream=stream)
    fail(client, "connect")
    client.give(UpstreamHead(2, status, JSON, elsewhere=True))
    client.data(b"too long")
    client.end()
    assert (client.attempt, client.status, client.sent) == (2, status, b"too long")
    assert client.exchange.record.outcome is Outcome.RELAYED


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_the_last_of_several_refusals_is_the_clients(status: int) -> None:
    client = Client(policy(attempts=3))
    for number in (1, 2):
        client.give(UpstreamHead(number, 503, JSON, elsewhere=number == 1))
    assert client.attempt == 3
    client.give(UpstreamHead(3, status, (*JSON, ("retry-after", "9"))))
    assert (client.status, client.headers["retry-after"]) == (status, "9")
    assert "x-should-retry" not in client.headers


@pytest.mark.parametrize("status", [400, 503])
def test_a_refusal_of_a_changed_request_or_behind_a_text_is_a_fault(status: int) -> None:
    changed, begun = Client(policy(attempts=2, hold=FULL)), Client(policy(attempts=2))
    attempt(changed, BAD)
    attempt(begun, "One ")
    fail(begun)
    for client in (changed, begun):
        client.give(UpstreamHead(2, status, JSON))
        assert client.error is not None
        assert client.error["code"] == "upstream_status"


@pytest.mark.parametrize(("status", "told"), [(429, 429), (503, 503), (500, 502)])
def test_a_refused_retry_after_a_busy_replica_tells_when_to_come_again(status: int, told: int) -> None:
    client = Client(policy(), retries=0)
    client.give(UpstreamHead(1, status, JSON, elsewhere=True))
    assert (client.status, client.headers.get("retry-after")) == (told, "7" if told == status else None)
    assert client.headers.get("x-should-retry") == (None if told == status else "false")
