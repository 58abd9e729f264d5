"""
Prints what the guard that is found says of recorded streams: verdicts chunk by chunk, and the bytes a client gets.

Run: `python replayed.py CHECKOUT`, with the guard to be tried on PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from guard.compiled import build_name
from guard.core.events import SendBody, UpstreamData, UpstreamEnd, UpstreamHead
from guard.core.exchange import Exchange
from guard.core.monitor import Monitor
from guard.core.settings import ExchangeSettings, Target
from guard.detect.baseline import Baseline
from guard.detect.told import bank_for
from guard.lab.cases import Case, read_cases, samples
from guard.policy.judge import Judge
from guard.proto.chunks import Route
from guard.proto.openai import parse_request
from guard.shipped import find_policy
from guard.types import Action, ReplicaId, RequestId, SignalRef

TRACES = Path(sys.argv[1]) / "tests/data/traces"
BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Go on."}]}).encode()
HEAD = UpstreamHead(1, 200, (("content-type", "text/event-stream"),))


def judged(judge: Judge, case: Case, baseline: Baseline | None) -> tuple[str, bool]:
    """Hash of all verdicts and suspicions, and whether any of them acts."""
    monitor = Monitor(judge, baseline, case.prompt)
    told, acts = hashlib.sha256(), False
    for sample in samples(case):
        verdict = monitor.observe((sample,))
        told.update(repr((verdict, monitor.suspicion, monitor.peak)).encode())
        acts = acts or verdict.action is Action.RETRY
    return told.hexdigest(), acts


def looks(judge: Judge, case: Case) -> int:
    """How often the judge asked for readings of text: only where the text has changed."""
    bank, state, asked = bank_for(judge.refs, None, case.prompt or "", told=judge.reads_logprobs), judge.state(), 0

    def read_all(refs: tuple[SignalRef, ...]) -> list[float]:
        nonlocal asked
        asked += 1
        return bank.read_all(refs)

    for sample in samples(case):
        bank.observe(sample)
        judge.suspects(bank.read, state, bank.text, read_all)
    return asked


#: Each with a reader of its own; all but vLLM leave the plugin's fields aside.
ENGINES = ("vllm", "sglang", "llama.cpp", "text")


def sent(judge: Judge, case: Case, engine: str) -> str:
    """Hash of what the client gets of a whole exchange, as vLLM with the plugin says it, whatever becomes of it."""
    exchange = Exchange(parse_request(Route.CHAT, BODY), ExchangeSettings(RequestId("r"), judge, "n"), 0.0)
    exchange.start()
    exchange.begin(Target(ReplicaId("a"), engine, case.num_speculative_tokens, None))
    exchange.handle(HEAD, 0.0)
    told, now = hashlib.sha256(), 0.0
    for number, chunk in enumerate(case.chunks):
        kept = max(0, chunk.accepted or 0)
        choice = {
            "index": 0,
            "delta": {"content": chunk.text},
            "logprobs": None,
            "finish_reason": "stop" if number + 1 == len(case.chunks) else None,
            "token_ids": list(range(chunk.tokens)),
        }
        steps = {"per_step_accepted": [kept], "per_step_drafted": [max(kept, chunk.drafted)]}
        data = {"id": "c", "choices": [choice], "metrics": {"speculative_decoding": steps}}
        now += 0.01
        event = b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
        commands = exchange.handle(UpstreamData(1, event), now)
        told.update(b"".join(command.data for command in commands if isinstance(command, SendBody)))
        told.update(repr([type(command).__name__ for command in commands]).encode())
        if commands and not isinstance(commands[-1], SendBody):
            break
    else:
        exchange.handle(UpstreamData(1, b"data: [DONE]\n\n"), now)
        exchange.handle(UpstreamEnd(1), now)
    told.update(repr(exchange.record).encode())
    return told.hexdigest()


def main() -> None:
    """Print one JSON object."""
    cases = [case for path in sorted(TRACES.glob("*.jsonl.gz")) for case in read_cases(path)]
    verdicts: list[str] = []
    acted = 0
    for name in ("default", "text-only"):
        judge = Judge(find_policy(name))
        for baseline in (None, Baseline(0.55, 10_000.0, 3)):
            for case in cases:
                told, acts = judged(judge, case, baseline)
                verdicts.append(told)
                acted += acts
    judge = Judge(find_policy("default"))
    print(
        json.dumps(
            {
                "built": build_name(),
                "verdicts": verdicts,
                "acted": acted,
                "looks": [looks(judge, case) for case in cases],
                "sent": [sent(judge, case, engine) for case in cases for engine in ENGINES],
            }
        )
    )


if __name__ == "__main__":
    main()
