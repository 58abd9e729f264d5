"""A verdict waits for a re-scoring; text is held meanwhile, and only text decides when the cache was right."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from guard.core.events import ClientGone, Confirm, Confirmed, UpstreamData, UpstreamEnd, UpstreamHead
from guard.core.exchange import Exchange
from guard.core.record import Outcome
from guard.core.settings import ExchangeSettings
from guard.policy.judge import Judge
from guard.policy.schema import Confirm as ConfirmPolicy
from guard.policy.schema import Leaf, Policy, Retry, Rule
from guard.proto.openai import Route, parse_request
from guard.rescore.compare import CacheVerdict, Rescored
from guard.types import Action, Change, Kind, RequestId, SignalRef
from tests.unit.core.transcript import BAD, DONE, SSE, Client, chunk, policy

WRONG = Rescored(CacheVerdict.WRONG, "differs")
RIGHT = Rescored(CacheVerdict.RIGHT, "the same")
UNKNOWN = Rescored(CacheVerdict.UNDECIDED, "no answer")


def confirming(base: Policy | None = None, **changes: Any) -> Policy:
    return msgspec.structs.replace(base or policy(), confirm=ConfirmPolicy(), **changes)


class Scored(Client):
    """A client whose exchange keeps what is emitted, and the confirmations it asked for."""

    def __init__(self, judged: Policy, **fields: Any) -> None:
        self.asked: list[Confirm] = []
        super().__init__(judged, **fields)
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}
        request = parse_request(Route.CHAT, json.dumps(body).encode())
        settings = ExchangeSettings(RequestId("r1"), Judge(judged), "r1", rescore=True)
        self.exchange = Exchange(request, settings, now=0.0)
        self.opened.clear()
        self._take(self.exchange.start())

    def _take(self, commands: list[Any]) -> None:
        self.asked += [command for command in commands if isinstance(command, Confirm)]
        super()._take(commands)

    def answer(self, result: Rescored) -> None:
        self.give(Confirmed(self.attempt, result))


def told(text: str, **extra: Any) -> bytes:
    """A chunk as vLLM sends it when ids and log-probabilities are asked."""
    fields = json.loads(chunk(text, **extra)[6:])
    fields["choices"][0] |= {"token_ids": [7], "logprobs": {"content": [{"logprob": -1.0}]}}
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


OPENING = (
    b'data: {"id":"c1","choices":[{"index":0,"delta":{"role":"assistant"},"logprobs":null}],"prompt_token_ids":[1]}\n\n'
)


def begun(judged: Policy | None = None, **fields: Any) -> Scored:
    client = Scored(judged or confirming(), **fields)
    client.head()
    client.data(OPENING, told("Good "))
    return client


def test_ids_and_log_probabilities_are_asked_of_the_backend_and_hidden_from_the_client() -> None:
    client = begun()
    assert (client.opened[0]["logprobs"], client.opened[0]["return_token_ids"]) == (True, True)
    assert client.text == "Good "
    assert b"-1.0" not in client.sent
    assert b'"logprobs":null' in client.sent
    assert b'"token_ids":null' in client.sent


def test_a_client_that_asked_for_them_gets_them() -> None:
    client = begun(logprobs=True, return_token_ids=True)
    assert b"-1.0" in client.sent
    assert b'"token_ids":[7]' in client.sent


def test_a_wrong_cache_is_retried_with_the_cache_left_aside_whatever_the_policy_changes() -> None:
    client = begun(confirming(retry=Retry(change=(Change.SEED,))))
    client.data(told(BAD))
    assert client.asked == [Confirm(1, client.asked[0].onset_token)]
    assert (client.text, client.aborted) == ("Good ", [])
    client.answer(WRONG)
    assert client.aborted == [1]
    assert client.opened[1]["cache_salt"] == "guard-r1-2"
    assert client.exchange.record.attempts[0].confirm == WRONG


def test_a_right_cache_lets_a_verdict_on_acceptance_alone_pass_for_the_whole_attempt() -> None:
    client = begun()
    client.data(told("fine" + BAD))
    client.answer(RIGHT)
    assert client.text == f"Good fine{BAD}"
    client.data(told("more" + BAD), told("end", finish="stop"), DONE)
    client.end()
    assert (client.aborted, len(client.asked), client.finished) == ([], 1, [True])
    assert client.exchange.record.outcome is Outcome.HEALTHY
    assert client.text.endswith(f"more{BAD}end")


def test_a_right_cache_does_not_save_text_that_a_rule_on_text_finds_bad() -> None:
    text = Rule(
        name="text",
        kind=Kind.REPETITION,
        action=Action.RETRY,
        when=Leaf(signal=SignalRef("repetition_count"), zero=2.0, one=4.0, step=False),
    )
    client = begun(confirming(rules=(*policy().rules, text)))
    client.data(told(BAD + " and so on, and on" * 12))
    assert len(client.asked) == 1
    client.answer(RIGHT)
    assert client.aborted == [1]
    assert client.exchange.record.attempts[0].rule == "text"


def test_a_repetition_that_the_engine_itself_found_stands_whatever_the_cache() -> None:
    loops = msgspec.structs.replace(policy().rules[0], name="loops", kind=Kind.REPETITION)
    client = begun(confirming(rules=(loops,)))
    client.data(told("on and on", finish="repetition"))
    assert len(client.asked) == 1
    client.answer(RIGHT)
    assert client.aborted == [1]


@pytest.mark.parametrize("result", [UNKNOWN, WRONG])
def test_undecided_leaves_the_policy_as_it_was(result: Rescored) -> None:
    client = begun()
    client.data(told(BAD))
    client.answer(result)
    assert client.aborted == [1]


def test_what_came_with_the_verdict_follows_when_the_cache_was_right() -> None:
    client = begun()
    client.data(told(BAD) + told(" and") + told(" more", finish="stop") + DONE)
    assert client.text == "Good "
    client.answer(RIGHT)
    assert client.text == f"Good {BAD} and more"
    client.end()
    assert client.finished == [True]


def test_a_body_that_ended_with_the_verdict_is_whole_after_the_confirmation() -> None:
    client = begun()
    client.data(told(BAD, finish="stop").replace(b"\n", b"\r"))
    client.give(UpstreamEnd(1))
    assert len(client.asked) == 1
    assert client.finished == []
    client.answer(RIGHT)
    assert client.text == f"Good {BAD}"
    assert client.finished == [True]


def test_a_client_that_goes_meanwhile_has_the_attempt_aborted_once() -> None:
    client = begun()
    client.data(told(BAD))
    client.give(ClientGone())
    assert (client.aborted, client.finished) == ([1], [True])
    assert client.exchange.record.outcome is Outcome.CLIENT_GONE


def test_kinds_that_are_not_named_and_backends_that_tell_nothing_are_not_confirmed() -> None:
    other = begun(msgspec.structs.replace(policy(), confirm=ConfirmPolicy(kinds=(Kind.REPETITION,))))
    other.data(told(BAD))
    assert (other.asked, other.aborted) == ([], [1])
    silent = Scored(confirming())
    silent.give(UpstreamHead(1, 200, SSE))
    silent.give(UpstreamData(1, chunk(BAD)))
    assert (silent.asked, silent.aborted) == ([], [1])
