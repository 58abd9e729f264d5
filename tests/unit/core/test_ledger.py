"""Each token generated is shown or burned, once."""

from __future__ import annotations

from guard.core.factory import Shown, ask, make_attempt
from guard.core.holdback import Held
from guard.core.ledger import Ledger
from guard.core.record import ExchangeRecord
from guard.core.settings import ExchangeSettings, Target
from guard.policy.judge import Judge
from guard.proto.openai import Route, parse_request
from guard.types import ReplicaId, RequestId
from tests.unit.core.transcript import policy


def test_shown_taken_back_and_burned() -> None:
    settings = ExchangeSettings(request_id=RequestId("r1"), judge=Judge(policy()), nonce="r1")
    request = parse_request(Route.CHAT, b'{"messages": []}')
    target, shown = Target(ReplicaId("a"), "vllm"), Shown()
    asked = ask(request, settings, target, number=1, mode="first", shown=shown)
    attempt = make_attempt(request, settings, asked, shown)
    record = ExchangeRecord("r1", "/v1/chat/completions", "m", "p", stream=False, attempts=[attempt.record])
    ledger = Ledger(record, started_at=10.0)
    ledger.arrived(10.5)
    ledger.arrived(11.0)
    ledger.held(4, 2, 10.5)
    ledger.held(2, 2, 10.75)
    ledger.held(2, 0, 11.0)
    attempt.record.tokens = 6
    ledger.shown(attempt, [Held(b"", "", 0, 0)], 11.0)
    ledger.shown(attempt, [Held(b"a", "a", 3, 3)], 12.0)
    assert (record.ttft_upstream, record.ttft_delivered, record.held_tokens_max) == (0.5, 2.0, 4)
    assert (record.tokens_shown, attempt.record.tokens_shown) == (3, 3)
    assert record.held_seconds == 0.5
    ledger.settle()
    assert (record.tokens_burned, attempt.record.tokens_burned) == (3, 3)
    ledger.shown(attempt, [Held(b"", "", 1, 4)], 14.5)
    assert record.longest_gap == 2.5
    ledger.taken_back()
    ledger.closed(15.0)
    assert (record.tokens_shown, record.tokens_burned, record.duration) == (0, 6, 5.0)
    assert attempt.record.tokens_burned == 6
