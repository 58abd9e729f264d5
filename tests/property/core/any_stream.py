"""One exchange over whatever bytes a backend may send: the declared errors only, and an end in any case."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from guard.core.events import Command, OpenAttempt, SendBody, UpstreamData, UpstreamEnd, UpstreamHead
from guard.core.exchange import Exchange
from guard.core.settings import ExchangeSettings, Target
from guard.errors import RequestError
from guard.policy.judge import Judge
from guard.policy.schema import Policy
from guard.proto.family import Family
from guard.types import ReplicaId, RequestId
from tests.unit.core.transcript import SSE

JUDGE = Judge(Policy(name="passes", rules=()))
MAX_EVENT_BYTES = 64 * 1024
#: The last two: what some engines are asked whole, and what may be asked for again, whole.
BODIES = (
    b'{"stream": true}',
    b'{"stream": false}',
    b'{"stream": true, "n": 2, "stop": "a"}',
    b'{"stream": false, "logprobs": true, "n_probs": 1, "background": true, "return_hidden_states": true}',
    b'{"stream": false, "tools": [{}], "return_tokens": true, "max_output_tokens": 2}',
)
JSON = (("content-type", "application/json"),)
ENGINES = ("llama.cpp", "vllm", "sglang", "text")


def play(
    family: Family, engine: str, body: bytes, pieces: Sequence[bytes], *, annotate: bool = False, judge: Judge = JUDGE
) -> bytes:
    """
    Give every attempt the same pieces, until the exchange is over.

    Returns:
        What the client got.
    """
    asked = family.parse(family.paths[0], body)
    settings = ExchangeSettings(
        request_id=RequestId("r"), judge=judge, nonce="n", annotate=annotate, max_event_bytes=MAX_EVENT_BYTES
    )
    exchange = Exchange(asked, settings, now=0.0)
    sent: list[bytes] = []

    def perform(commands: list[Command]) -> int:
        opened = 0
        for command in commands:
            if isinstance(command, OpenAttempt):
                exchange.begin(Target(ReplicaId("a"), engine))
                opened = command.attempt
            elif isinstance(command, SendBody):
                sent.append(command.data)
        return opened

    number = perform(exchange.start())
    while number:
        number = attempt(exchange, number, pieces, perform)
    assert exchange.done
    return b"".join(sent)


def attempt(exchange: Exchange, number: int, pieces: Sequence[bytes], perform: object) -> int:
    """One attempt; the number of the one that follows, 0 for none."""
    assert callable(perform)
    assert exchange.attempt is not None
    head = JSON if exchange.attempt.whole else SSE
    events = [UpstreamHead(number, 200, head), *(UpstreamData(number, piece) for piece in pieces), UpstreamEnd(number)]
    for event in events:
        following = perform(exchange.handle(event, 1.0))
        if following:
            return int(following)
    return 0


def read_request(family: Family, body: bytes) -> None:
    """Any bytes as a request: read, or refused in the declared way."""
    with contextlib.suppress(RequestError):
        family.parse(family.paths[0], body)
