"""
What passing chunks before they are judged costs in detection: a policy against labelled streams through the live path.

Run: `python -m tests.bench.passing [--policy NAME] [--json] CASES...`. `guard backtest` judges every chunk by itself.
Here each case is what vLLM with the plugin would write, a chunk a read, and an exchange takes it: once as it serves
clients, where plain chunks pass and are judged several at a time, and once with each judged before it is sent. Told for
each kind: recall, the delay in tokens of the answer, and how many more characters from the fault's first token on the
client was shown because chunks pass.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from guard.core.attempt import Attempt
from guard.core.events import AbortAttempt, Command, SendBody, UpstreamHead
from guard.core.exchange import Exchange
from guard.core.settings import ExchangeSettings, Target
from guard.lab.cases import BAD_KINDS, Case, CaseKind, read_cases
from guard.policy.judge import Judge
from guard.proto.chunks import decode_chunk, is_done
from guard.proto.openai import Route, parse_request
from guard.proto.sse import SseParser
from guard.shipped import find_policy
from guard.types import ReplicaId, RequestId

HEAD = UpstreamHead(1, 200, (("content-type", "text/event-stream"),))


class EachJudged(Exchange):
    """An exchange of which nothing passes before it is judged."""

    def _begin_passing(self, attempt: Attempt) -> None:
        self._may_pass = self._passes = False


class Seen(NamedTuple):
    """
    What became of one case.

    Args:
        token: Of the verdict that ended it; None where none did.
        shown: Characters of content that the client got.
    """

    token: int | None
    shown: int


class Both(NamedTuple):
    """One case, with chunks that pass and with each judged."""

    case: Case
    live: Seen
    each: Seen

    @property
    def bad_more(self) -> int:
        """Characters from the fault's first token on that the client has only because chunks pass."""
        healthy = shown_before(self.case)
        return max(self.live.shown - healthy, 0) - max(self.each.shown - healthy, 0)


def shown_before(case: Case) -> int:
    """Characters of the chunks before the fault begins."""
    tokens = size = 0
    for chunk in case.chunks:
        tokens += chunk.tokens
        if tokens > (case.first_bad_token or 0):
            break
        size += len(chunk.text)
    return size


def events(case: Case) -> Iterable[bytes]:
    """The case as vLLM with the plugin writes it."""
    for text, tokens, accepted, drafted, *_ in case.chunks:
        choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        fields: dict[str, Any] = {"id": "c", "created": 1, "choices": [{**choice, "token_ids": [7] * tokens}]}
        if accepted is not None and drafted >= 0:
            steps = {"per_step_accepted": [accepted], "per_step_drafted": [drafted]}
            fields["metrics"] = {"speculative_decoding": steps}
        yield b"data: " + msgspec.json.encode(fields) + b"\n\n"
    yield b'data: {"id":"c","created":1,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


def run(kind: type[Exchange], judge: Judge, case: Case) -> Seen:
    """One case through one exchange, up to the verdict that ends its first attempt."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": case.prompt or "hi"}]}
    request = parse_request(Route.CHAT, json.dumps(body).encode())
    exchange = kind(request, ExchangeSettings(RequestId("r"), judge, "n"), 0.0)
    exchange.start()
    exchange.begin(Target(ReplicaId("a"), "vllm", case.num_speculative_tokens or 3))
    exchange.handle(HEAD, 0.1)
    said: list[bytes] = []
    for event in events(case):
        commands: list[Command] = exchange.data(1, event, 1.0)
        commands += exchange.look(1.0)  # the server has it made before the next step is over
        said += [command.data for command in commands if isinstance(command, SendBody)]
        if any(isinstance(command, AbortAttempt) for command in commands):
            return Seen(exchange.record.attempts[0].verdict_token, content(said))
    return Seen(None, content(said))


def content(said: list[bytes]) -> int:
    """Characters of content in what a client got."""
    read = [event.data for event in SseParser().feed(b"".join(said)) if event.data is not None]
    chunks = [decode_chunk(data) for data in read if not is_done(data)]
    return sum(len(choice.delta.content or "") for chunk in chunks for choice in chunk.choices if choice.delta)


def compared(judge: Judge, cases: Iterable[Case]) -> list[Both]:
    """Each case both ways."""
    return [Both(case, run(Exchange, judge, case), run(EachJudged, judge, case)) for case in cases]


def of_kind(tried: Sequence[Both]) -> dict[str, Any]:
    """Figures of one kind of fault."""
    found: dict[str, Any] = {"cases": len(tried)}
    for way in ("live", "each"):
        tokens = [(getattr(one, way).token, one.case.first_bad_token or 0) for one in tried]
        delays = sorted(token - first for token, first in tokens if token is not None and token >= first)
        found[way] = {
            "recall": round(len(delays) / len(tried), 4),
            "delay_median": statistics.median(delays) if delays else None,
            "delay_p90": delays[math.ceil(0.9 * len(delays)) - 1] if delays else None,
        }
    later = [one.live.token - one.each.token for one in tried if one.live.token and one.each.token]
    more = sorted(one.bad_more for one in tried if one.live.token)
    found["tokens_later"] = {"mean": round(statistics.mean(later), 2) if later else None, "most": max(later, default=0)}
    found["bad_characters_more"] = {"median": statistics.median(more) if more else None, "most": max(more, default=0)}
    return found


def figures(tried: Sequence[Both]) -> dict[str, Any]:
    """All figures, by kind; of healthy streams those stopped, and bad ones stopped too early, either way."""
    found: dict[str, Any] = {}
    for kind in BAD_KINDS:
        mine = [one for one in tried if one.case.kind is kind]
        if mine:
            found[kind.value] = of_kind(mine)
    healthy = [one for one in tried if one.case.kind is CaseKind.HEALTHY]
    bad = [one for one in tried if one.case.kind in BAD_KINDS]
    for way in ("live", "each"):
        stopped = sum(getattr(one, way).token is not None for one in healthy)
        early = sum(getattr(one, way).token < (one.case.first_bad_token or 0) for one in bad if getattr(one, way).token)
        found[f"false_positives_{way}"] = stopped + early
    found["healthy"] = len(healthy)
    found["otherwise"] = [one.case.id for one in tried if (one.live.token is None) != (one.each.token is None)]
    return found


def main() -> int:
    """Print the figures; 1 if a stream is stopped one way and not the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("cases", nargs="+", type=Path)
    asked = parser.parse_args()
    judge = Judge(find_policy(asked.policy))
    found = figures(compared(judge, [case for path in asked.cases for case in read_cases(path)]))
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name}: {json.dumps(value)}")
    return 1 if found["otherwise"] else 0


if __name__ == "__main__":
    sys.exit(main())
