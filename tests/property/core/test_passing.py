"""Chunks that pass at once: neither client nor record can tell, and faults are found as before but for a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from guard.core.events import AbortAttempt, SendBody, UpstreamData, UpstreamEnd, UpstreamHead
from guard.core.exchange import Exchange
from guard.core.passing import MOST_UNJUDGED
from guard.core.settings import ExchangeSettings, Target
from guard.lab.cases import Case, read_cases
from guard.policy.judge import Judge
from guard.policy.schema import Policy
from guard.proto.openai import Route, parse_request
from guard.shipped import find_policy
from guard.types import ReplicaId, RequestId
from tests.unit.core.transcript import DONE, SSE, chunk

TRACES = Path(__file__).parents[2] / "data" / "traces"
JUDGES = [Judge(find_policy("default")), Judge(Policy(name="passes", rules=()))]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


class Slow(Exchange):
    """An exchange of which nothing passes."""

    def _begin_passing(self, attempt: object) -> None:
        self._may_pass = self._passes = False


def plain(text: str, tokens: int, accepted: int, drafted: int) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    steps = {"per_step_accepted": [accepted], "per_step_drafted": [drafted]}
    fields = {"id": "c", "created": 1, "choices": [{**choice, "token_ids": [7] * tokens}]}
    return b"data: " + msgspec.json.encode({**fields, "metrics": {"speculative_decoding": steps}}) + b"\n\n"


def started(kind: type[Exchange], judge: Judge, prompt: str = "hi", k: int = 3) -> Exchange:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": prompt}]}
    exchange = kind(
        parse_request(Route.CHAT, json.dumps(body).encode()), ExchangeSettings(RequestId("r"), judge, "n"), 0.0
    )
    exchange.start()
    exchange.begin(Target(ReplicaId("a"), "vllm", k))
    exchange.handle(UpstreamHead(1, 200, SSE), 0.1)
    return exchange


PIECE = st.one_of(
    st.builds(plain, TEXTS, st.integers(1, 4), st.integers(0, 3), st.just(3)),
    st.builds(chunk, TEXTS),
    st.just(b": still here\n\n"),
)


@given(st.lists(PIECE, min_size=1, max_size=40), st.sampled_from(JUDGES), st.booleans(), st.data())
def test_neither_client_nor_record_can_tell(
    events: list[bytes], judge: Judge, looks: bool, data: st.DataObject
) -> None:
    """While nothing is suspected: the same bytes, the same account, whatever comes in one read."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(events)), max_size=len(events))))
    both = [started(Exchange, judge), started(Slow, judge)]
    sent = [b"", b""]
    for place, exchange in enumerate(both):
        at = 0
        for cut in [*cuts, len(events)]:
            if events[at:cut]:
                for command in exchange.handle(UpstreamData(1, b"".join(events[at:cut])), 1.0 + cut):
                    sent[place] += command.data if isinstance(command, SendBody) else b""
                if looks:
                    assert exchange.look(1.0 + cut) == []
            at = cut
        # What is suspected of the last of several events in one read holds those before it, unless they have passed.
        assume(exchange.record.attempts[0].suspicion_peak == 0.0 and len(exchange.record.attempts) == 1)
        for event in (UpstreamData(1, chunk("", finish="stop") + DONE), UpstreamEnd(1)):
            for command in exchange.handle(event, 50.0):
                sent[place] += command.data if isinstance(command, SendBody) else b""
    assert sent[0] == sent[1]
    fast, slow = (msgspec.structs.asdict(exchange.record) for exchange in both)
    ours, theirs = (msgspec.structs.asdict(record.pop("attempts")[0]) for record in (fast, slow))
    for record in (fast, slow):
        del record["held_tokens_max"]  # what passes is never in the window
    assert fast == slow
    for account in (ours, theirs):  # how suspicion rose and fell on the way
        del account["suspicions"], account["suspicion_peak"]
    assert ours == theirs


def found(kind: type[Exchange], case: Case) -> tuple[str, str | None, int, int]:
    """Verdict, kind, token of the verdict, tokens shown."""
    exchange = started(kind, JUDGES[0], case.prompt or "hi", case.num_speculative_tokens or 3)
    for piece in case.chunks:
        event = plain(piece.text, piece.tokens, max(piece.accepted or 0, 0), max(piece.drafted, 0))
        if any(isinstance(command, AbortAttempt) for command in [*exchange.data(1, event, 1.0), *exchange.look(1.0)]):
            break
    attempt = exchange.record.attempts[0]
    return attempt.verdict, attempt.kind, attempt.verdict_token or 0, attempt.tokens_shown


@pytest.mark.parametrize("half", ["tuning", "unseen"])
def test_recorded_faults_are_found_as_soon_but_for_a_few_steps(half: str) -> None:
    later: list[int] = []
    for case in read_cases(TRACES / f"{half}.jsonl.gz"):
        slow, fast = found(Slow, case), found(Exchange, case)
        assert fast[:2] == slow[:2], case.id
        if slow[2]:
            later.append(fast[2] - slow[2])
    assert len(later) > 10
    assert max(later) <= MOST_UNJUDGED
    assert mean(later) < 0.5
