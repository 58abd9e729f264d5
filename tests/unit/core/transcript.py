"""Helpers for exchange tests: a backend's chunks by hand, commands as a transcript."""

from __future__ import annotations

import json
from typing import Any

from guard.core.events import (
    AbortAttempt,
    Command,
    Event,
    Finish,
    OpenAttempt,
    RetryRefused,
    SendBody,
    SendHead,
    UpstreamData,
    UpstreamEnd,
    UpstreamFailed,
    UpstreamHead,
)
from guard.core.exchange import Exchange
from guard.core.settings import ExchangeSettings, Target, Wariness
from guard.errors import UpstreamError
from guard.policy.judge import Judge
from guard.policy.schema import HoldBack, HoldMode, Leaf, Policy, Retry, Rule
from guard.proto.openai import Route, parse_request
from guard.types import Action, Kind, ReplicaId, RequestId, SignalRef, Unit, WhenExhausted, Window

SSE = (("content-type", "text/event-stream"),)
#: Texts whose verify step keeps none, or half, of its draft; any other text keeps all of it.
BAD = "<bad>"
DOUBT = "<doubt>"


def rule(action: Action) -> Rule:
    """A rule on the latest verify step: suspicion is the share of its draft that was rejected."""
    signal = SignalRef("acceptance_rate", Window(1, Unit.STEPS))
    return Rule(
        name="rejected",
        kind=Kind.GARBLED,
        action=action,
        when=Leaf(signal=signal, zero=1.0, one=0.0, step=False),
    )


def policy(
    action: Action = Action.RETRY,
    *,
    attempts: int = 3,
    hold: HoldBack | None = None,
    exhausted: WhenExhausted = WhenExhausted.CUT,
) -> Policy:
    return Policy(
        name="test",
        rules=(rule(action),),
        hold_back=hold or HoldBack(),
        retry=Retry(max_attempts=attempts),
        when_exhausted=exhausted,
    )


WINDOW_8 = HoldBack(mode=HoldMode.WINDOW, window=8)
FULL = HoldBack(mode=HoldMode.FULL)


def chunk(text: str, *, finish: str | None = None, **extra: Any) -> bytes:
    """One chunk of a vLLM backend with the plugin; see BAD and DOUBT."""
    accepted = 0 if BAD in text else 1 if DOUBT in text else 2
    if text:
        steps = {"per_step_accepted": [accepted], "per_step_drafted": [2]}
        extra = {"metrics": {"speculative_decoding": steps}, **extra}
    body = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}],
        **extra,
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


class Client:
    """
    Drives one exchange and keeps what a client would have seen. Attempts after `retries` more than the first
    are refused, and those after `replicas` find nobody to make them. `why` says what the first attempt's replica is
    suspected for; it may change meanwhile.
    """

    def __init__(
        self,
        judged: Policy,
        *,
        stream: bool = True,
        engine: str = "vllm",
        retries: int = 99,
        replicas: int = 99,
        second_look: bool = True,
        why: str | None = None,
        **fields: Any,
    ) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **fields}
        request = parse_request(Route.CHAT, json.dumps(body).encode())
        settings = ExchangeSettings(
            request_id=RequestId("r1"), judge=Judge(judged), nonce="r1", retry_after=7, second_look=second_look
        )
        self.exchange = Exchange(request, settings, now=0.0)
        self.engine = engine
        self.why = why
        self._retries = retries
        self._replicas = replicas
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.sent = b""
        self.opened: list[dict[str, Any]] = []
        self.aborted: list[int] = []
        self.finished: list[bool] = []
        self._take(self.exchange.start())

    @property
    def attempt(self) -> int:
        return len(self.opened)

    def give(self, event: Event) -> list[Command]:
        commands = self.exchange.handle(event, now=1.0)
        self._take(commands)
        return commands

    def head(self, status: int = 200) -> None:
        self.give(UpstreamHead(self.attempt, status, SSE))

    def data(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.give(UpstreamData(self.attempt, piece))

    def end(self) -> None:
        self.give(UpstreamEnd(self.attempt))

    def _take(self, commands: list[Command]) -> None:
        for command in commands:
            assert not self.finished, "a command after Finish"
            if isinstance(command, OpenAttempt) and command.attempt > 1 + self._retries:
                self._take(self.exchange.handle(RetryRefused(command.attempt, "used up"), now=1.0))
            elif isinstance(command, OpenAttempt) and command.attempt > self._replicas:
                fault = UpstreamError("unavailable", "every replica is drained")
                self._take(self.exchange.handle(UpstreamFailed(command.attempt, fault), now=1.0))
            elif isinstance(command, OpenAttempt):
                wary = command.attempt == 1 and self.why is not None
                wariness = Wariness(lambda: self.why or "", 0.4, ("garbled",)) if wary else None
                target = Target(ReplicaId(f"replica-{command.attempt}"), self.engine, wariness=wariness)
                body = self.exchange.begin(target)
                self.opened.append(json.loads(body))
            elif isinstance(command, AbortAttempt):
                self.aborted.append(command.attempt)
            elif isinstance(command, SendHead):
                assert self.status is None, "two heads"
                self.status, self.headers = command.status, dict(command.headers)
            elif isinstance(command, SendBody):
                assert self.status is not None, "body before head"
                self.sent += command.data
            elif isinstance(command, Finish):
                self.finished.append(command.whole)

    @property
    def text(self) -> str:
        """All content the client has."""
        out = ""
        for line in self.sent.decode().splitlines():
            if line.startswith("data: {"):
                body = json.loads(line[6:])
                for choice in body.get("choices", []):
                    out += choice["delta"].get("content") or ""
        return out

    @property
    def error(self) -> dict[str, Any] | None:
        """The error the client was told of, if any."""
        if self.headers.get("content-type") == "application/json":
            return json.loads(self.sent).get("error")
        for line in self.sent.decode().splitlines():
            if line.startswith("data: {") and "error" in json.loads(line[6:]):
                return json.loads(line[6:])["error"]
        return None
