"""Whatever happens, in whatever order: the promises of guard.core.exchange."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from guard.core.events import ClientGone, UpstreamData, UpstreamEnd, UpstreamFailed, UpstreamHead
from guard.core.phases import LEGAL, Phase
from guard.errors import UpstreamError
from guard.policy.schema import HoldBack
from guard.types import WhenExhausted
from tests.unit.core.transcript import BAD, DONE, DOUBT, FULL, SSE, WINDOW_8, Client, chunk, policy

OWN_ERROR = b'data: {"error": {"message": "x"}}\n\n'
PIECES = st.sampled_from(
    [
        chunk("one "),
        chunk("two "),
        chunk(DOUBT),
        chunk(BAD),
        chunk("", finish="stop"),
        chunk("end", finish="length"),
        DONE,
        b": ping\n\n",
        b"data: {broken\n\n",
        OWN_ERROR,
        chunk("cut")[:30],
    ]
)
ACTIONS = st.one_of(
    st.tuples(st.just("head"), st.sampled_from([200, 200, 200, 404, 500])),
    st.tuples(st.just("data"), PIECES),
    st.tuples(st.just("data"), PIECES),
    st.tuples(st.just("data"), PIECES),
    st.tuples(st.just("end"), st.none()),
    st.tuples(st.just("failed"), st.sampled_from(["reset", "timeout", "connect"])),
    st.tuples(st.just("gone"), st.none()),
    st.tuples(st.just("stale"), PIECES),
    st.tuples(st.just("suspect"), st.sampled_from(["it was bad before", ""])),
)
HOLDS = st.sampled_from([HoldBack(), WINDOW_8, FULL])


def play(client: Client, action: str, value: object) -> None:
    exchange = client.exchange
    attempt = client.attempt
    if action == "suspect":
        client.why = str(value)
        return
    event = {
        "head": lambda: UpstreamHead(attempt, value, SSE),  # type: ignore[arg-type]
        "data": lambda: UpstreamData(attempt, value),  # type: ignore[arg-type]
        "end": lambda: UpstreamEnd(attempt),
        "failed": lambda: UpstreamFailed(attempt, UpstreamError(str(value), "it broke")),
        "gone": ClientGone,
        "stale": lambda: UpstreamData(attempt - 1, value),  # type: ignore[arg-type]
    }[action]()
    stale = action == "stale"
    if not exchange.done and not stale and type(event) not in LEGAL[exchange._phase]:
        return  # the server never reports this now
    client.give(event)


@settings(max_examples=400)
@given(
    st.lists(ACTIONS, max_size=40),
    HOLDS,
    st.booleans(),
    st.sampled_from(list(WhenExhausted)),
    st.integers(1, 3),
    st.sampled_from([99, 99, 1, 0]),
    st.sampled_from([None, "", "it was bad before"]),
)
def test_promises(
    actions: list[tuple[str, object]],
    hold: HoldBack,
    stream: bool,
    exhausted: WhenExhausted,
    attempts: int,
    retries: int,
    why: str | None,
) -> None:
    judged = policy(attempts=attempts, hold=hold, exhausted=exhausted)
    client = Client(judged, stream=stream, retries=retries, why=why)
    for action, value in actions:
        play(client, action, value)
    if not client.exchange.done:
        client.give(ClientGone())

    record = client.exchange.record
    assert client.exchange._phase is Phase.DONE
    assert len(client.finished) == 1
    assert len(client.aborted) == len(set(client.aborted))
    assert set(client.aborted) <= set(range(1, client.attempt + 1))
    assert client.attempt <= attempts
    assert record.tokens_shown >= 0
    assert record.tokens_burned >= 0
    made = sum(attempt.tokens for attempt in record.attempts)
    assert record.tokens_shown + record.tokens_burned == made
    # A failure never looks complete, and every event that was sent is whole.
    if stream and client.status == 200 and record.outcome.value != "relayed":
        if client.error and DONE in client.sent:  # then both are the backend's own
            assert 0 <= client.sent.find(OWN_ERROR) < client.sent.find(DONE)
        assert client.sent == b"" or client.sent.endswith(b"\n\n")
        for line in client.sent.split(b"\n"):
            if line.startswith(b"data: {"):
                json.loads(line[6:])
