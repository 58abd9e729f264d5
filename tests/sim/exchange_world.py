"""
The world around one exchange, on a clock of its own: replicas that misbehave, a client that leaves, a driver.

Everything comes from one seed. The driver here does what guard/server/driver.py does, step for step, without
sockets: it performs commands in order, and a client that goes while one of them waits takes the rest with it.
A replica tells the words w0, w1, w2 ... of one answer, bad ones in between when it garbles; asked to continue a
text, it goes on after it. So what a client holds can be checked word by word.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from guard.core.events import (
    AbortAttempt,
    ClientGone,
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
from guard.core.settings import ExchangeSettings, Target
from guard.errors import UpstreamError
from guard.policy.judge import Judge
from guard.policy.schema import HoldBack, HoldMode, Leaf, Policy, Retry, Rule
from guard.proto.openai import Route, parse_request
from guard.types import Action, Kind, ReplicaId, RequestId, SignalRef, Unit, WhenExhausted, Window

SSE = (("content-type", "text/event-stream"),)
JSON = (("content-type", "application/json"),)
DRAFTED = 2
BAD, DOUBT = "bad ", "hm "
MAX_EVENT = 4096


@dataclass(frozen=True)
class Plan:
    """
    What the seed decided. Times in seconds of the virtual clock.

    Args:
        policy: The policy.
        body: The client's request.
        words: Length of the whole answer.
        faults: What becomes of each attempt, by its number; the last for all later ones.
        gone_at: When the client goes; never if infinite.
        slow: How long the client takes to read what it is sent, each time.
        engine: Of all replicas.
        refuses: Whether the fleet's budget allows no retry.
        elsewhere: Whether there is a second replica to ask.
    """

    policy: Policy
    body: dict[str, Any]
    words: int
    faults: tuple[str, ...]
    gone_at: float
    slow: float
    engine: str
    refuses: bool
    elsewhere: bool


DONE = b"data: [DONE]\n\n"
#: A backend's own words for a failure, in the middle of its stream.
OWN_ERROR = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
#: What can become of an attempt. "none" and "slow" do no harm.
FAULTS = (
    *("none", "slow", "garble", "doubt", "garble_at_once"),
    *("refused", "busy", "not_a_stream", "stall", "stall_before_head", "reset", "truncated", "cut_event"),
    *("error_event", "malformed", "too_large", "no_done", "comments", "finish_then_reset", "garble_then_reset"),
)


def plan_of(dice: random.Random) -> Plan:
    """The world of one seed."""
    stream = dice.random() < 0.8
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "tell"}], "stream": stream}
    if dice.random() < 0.15:
        body["logprobs"] = True
    if dice.random() < 0.2:
        body["max_tokens"] = dice.choice((5, 40, 4096))
    if dice.random() < 0.2 and stream:  # where nothing is streamed, vLLM refuses it
        body["stream_options"] = {"include_usage": True}
    engine = dice.choice(("vllm", "vllm", "vllm", "llama.cpp", "text"))
    if engine == "llama.cpp":
        body.pop("logprobs", None)  # asked whole, where nothing is streamed
        if dice.random() < 0.7:  # each chunk waits for the next
            body["stop"] = ["zz"]
    return Plan(
        policy=_policy(dice),
        body=body,
        words=dice.randint(1, 40),
        faults=tuple(dice.choice(FAULTS) for _ in range(dice.randint(1, 4))),
        gone_at=dice.uniform(0.0, 3.0) if dice.random() < 0.2 else float("inf"),
        slow=dice.choice((0.0, 0.0, 0.01, 0.5)),
        engine=engine,
        refuses=dice.random() < 0.1,
        elsewhere=dice.random() < 0.3,
    )


def _policy(dice: random.Random) -> Policy:
    """A rule on the latest step: suspicion is the share of its draft that was rejected."""
    leaf = Leaf(signal=SignalRef("acceptance_rate", Window(1, Unit.STEPS)), zero=1.0, one=0.0, step=False)
    action = dice.choice((Action.RETRY, Action.RETRY, Action.RETRY, Action.CUT, Action.NOTE))
    hold = dice.choice(
        (
            HoldBack(),
            HoldBack(),
            HoldBack(mode=HoldMode.WINDOW, window=dice.randint(1, 30)),
            HoldBack(mode=HoldMode.FULL),
            HoldBack(mode=HoldMode.OFF),
            HoldBack(limit=dice.randint(1, 10)),
        )
    )
    return Policy(
        name="simulated",
        rules=(Rule(name="rejected", kind=Kind.GARBLED, action=action, when=leaf),),
        hold_back=hold,
        retry=Retry(max_attempts=dice.randint(1, 4)),
        when_exhausted=dice.choice((WhenExhausted.CUT, WhenExhausted.PASS)),
    )


def chunk(text: str, *, finish: str | None = None, plain: bool = False, **more: Any) -> bytes:
    """
    A chunk of vLLM with the plugin: a bad one kept nothing of its draft, a doubtful one half.

    Args:
        text: Empty for none.
        finish: Reason of the end.
        plain: To the byte as vLLM writes it, so that it may be passed on at once.
        more: Further fields. With `timings` it is one of llama.cpp.
    """
    choice: dict[str, Any] = {"index": 0, "delta": {"content": text} if text else {}, "logprobs": None}
    choice["finish_reason"] = finish
    if text and "timings" not in more:
        accepted = accepted_of(text)
        steps = {"per_step_accepted": [accepted], "per_step_drafted": [DRAFTED]}
        more = {"metrics": {"speculative_decoding": steps}, **more}
        if plain:
            choice["token_ids"] = [7] * (accepted + 1)
    fields = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(fields, separators=(",", ":") if plain else None).encode() + b"\n\n"


def accepted_of(text: str) -> int:
    """How much of its draft the step of a chunk kept. Unit: tokens."""
    return 0 if BAD in text else 1 if DOUBT in text else DRAFTED


def said_before(body: dict[str, Any]) -> str:
    """The text that a request asks to continue; empty when it asks for a new answer."""
    last = body["messages"][-1]
    return str(last["content"]) if last["role"] == "assistant" else ""


#: What a replica does next: seconds that pass, then the event. None stands for silence until the deadline.
Step = tuple[float, Event]


class Replica:
    """One attempt on one replica."""

    def __init__(self, number: int, body: dict[str, Any], plan: Plan, dice: random.Random) -> None:
        self.number = number
        self.fault = plan.faults[min(number, len(plan.faults)) - 1]
        self._dice = dice
        #: How many of its chunks are as vLLM writes them, and whether they arrive one by one.
        self._plain = dice.choice((0.0, 0.8, 1.0)) if plan.engine == "vllm" else 0.0
        self._one_by_one = dice.random() < 0.5
        #: llama.cpp's counters so far; None for other engines.
        self._counters = {"predicted_n": 0, "draft_n": 0, "draft_n_accepted": 0} if plan.engine == "llama.cpp" else None
        self._words = plan.words
        self._elsewhere = plan.elsewhere
        self._first = sum(word[0] == "w" for word in said_before(body).split())
        #: Whether all of the answer was sent, its end included.
        self.whole = False
        #: What it says after an error event of its own.
        self.rest = dice.choice(("nothing", "done", "done", "words", "bad", "malformed", "reset", "stall"))

    def steps(self) -> Iterator[Step]:
        """Everything up to the end of the connection."""
        dice, fault = self._dice, self.fault
        wait = dice.choice((0.5, 2.0)) if fault == "slow" else dice.uniform(0.001, 0.05)
        if fault == "refused":
            yield wait, self._lost("connect")
            return
        if fault == "stall_before_head":
            yield 30.0, self._lost("timeout")
            return
        if fault in ("busy", "not_a_stream"):
            yield from self._other_answer(wait)
            return
        yield wait, UpstreamHead(self.number, 200, SSE)
        for data in self._pieces():
            yield wait, UpstreamData(self.number, data)
        yield from self._end(wait)

    def _other_answer(self, wait: float) -> Iterator[Step]:
        status = 200 if self.fault == "not_a_stream" else self._dice.choice((400, 429, 500, 503))
        yield wait, UpstreamHead(self.number, status, JSON, self._elsewhere)
        yield wait, UpstreamData(self.number, b'{"error": {"message": "the backend says no"}}')
        yield wait, UpstreamEnd(self.number)

    def _end(self, wait: float) -> Iterator[Step]:
        end = self.rest if self.fault == "error_event" else self.fault
        if end in ("reset", "finish_then_reset", "garble_then_reset"):
            yield wait, self._lost("reset")
        elif end == "stall":
            yield 30.0, self._lost("timeout")
        else:
            yield wait, UpstreamEnd(self.number)

    def _lost(self, kind: str) -> UpstreamFailed:
        return UpstreamFailed(self.number, UpstreamError(kind, "simulated"))

    def _pieces(self) -> Iterator[bytes]:
        """The stream's bytes, cut anywhere, or event by event."""
        if self._one_by_one and self.fault != "cut_event":
            yield from filter(None, self._events())
            return
        data = b"".join(self._events())
        if self.fault == "cut_event":
            data = data[: self._dice.randint(0, len(data) - 1)]
            self.whole = False
        at = 0
        while at < len(data):
            size = self._dice.choice((7, 60, 200, 230, 1000))
            yield data[at : at + size]
            at += size

    def _events(self) -> Iterator[bytes]:
        dice, fault = self._dice, self.fault
        yield chunk("", role="assistant") if dice.random() < 0.5 else b""
        breaks_at = dice.randint(0, self._words) if fault in _EARLY else self._words + 1
        for place in range(self._first, self._words):
            if place >= breaks_at:
                break
            yield from self._around(place)
            yield self._said(f"w{place} ")
        if fault in _EARLY:
            yield from self._break(max(breaks_at, self._first))
            return
        yield chunk("", finish="stop") if self._counters is None else chunk("", finish="stop", timings=self._counters)
        if fault == "finish_then_reset":
            return
        if fault != "no_done":
            yield DONE
        self.whole = True

    def _said(self, text: str) -> bytes:
        if self._counters is not None:
            kept = accepted_of(text)
            for name, more in (("predicted_n", kept + 1), ("draft_n", DRAFTED), ("draft_n_accepted", kept)):
                self._counters[name] += more
            return chunk(text, timings=self._counters)
        return chunk(text, plain=self._dice.random() < self._plain)

    def _around(self, place: int) -> Iterator[bytes]:
        dice, fault = self._dice, self.fault
        if fault == "comments" and dice.random() < 0.3:
            yield b": still here\n\n"
        if fault == "doubt" and dice.random() < 0.3:
            yield self._said(DOUBT)
        at_once = fault == "garble_at_once" and place == self._first
        if at_once or (fault in ("garble", "garble_then_reset") and dice.random() < 0.2):
            yield self._said(BAD)

    def _break(self, place: int) -> Iterator[bytes]:
        if self.fault == "error_event":
            yield OWN_ERROR
            word = {"words": f"w{place} ", "bad": BAD}.get(self.rest)
            yield self._said(word) if word else b"data: {{{\n\n" if self.rest == "malformed" else b""
            yield DONE if self.rest in ("done", "words", "bad") else b""
        elif self.fault == "malformed":
            yield self._dice.choice((b"data: {{{\n\n", b"data: []\n\n", b"\xff\xfe\n\n", b'data: {"choices": 3}\n\n'))
        elif self.fault == "too_large":
            yield b"data: " + b"x" * (MAX_EVENT + 100)


#: Faults that come in the middle of the words.
_EARLY = frozenset({"stall", "reset", "truncated", "error_event", "malformed", "too_large"})


class Violation(AssertionError):
    """A promise of the exchange that was not kept."""


@dataclass
class Seen:
    """What the client and the replicas have of the exchange."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    sent: bytes = b""
    finished: list[bool] = field(default_factory=list)
    gone: bool = False
    relayed: bool = False

    def text(self) -> str:
        """All content that the client was sent."""
        if self.headers.get("content-type") == "application/json":
            choices = json.loads(self.sent).get("choices", []) if self.sent else []
            return "".join(choice["message"]["content"] or "" for choice in choices)
        return "".join(choice["delta"].get("content") or "" for body in self.bodies() for choice in body["choices"])

    def bodies(self) -> Iterator[dict[str, Any]]:
        for line in self.sent.split(b"\n"):
            if line.startswith(b"data: {") and b'"choices"' in line:
                yield json.loads(line[6:])

    @property
    def finish_reason(self) -> bool:
        return any(choice.get("finish_reason") for body in self.bodies() for choice in body["choices"])

    @property
    def done(self) -> int:
        return self.sent.count(b"data: [DONE]")

    @property
    def error(self) -> bool:
        return b'"error"' in self.sent or b"data: {{{" in self.sent


def need(truth: bool, promise: str) -> None:
    """
    Hold the exchange to a promise.

    Raises:
        Violation: It was not kept.
    """
    if not truth:
        raise Violation(promise)


class Simulation:
    """
    One exchange in one world.

    Args:
        seed: Of everything.
        log: Takes one line for each thing that happens, for people.
    """

    def __init__(self, seed: int, log: list[str] | None = None) -> None:
        self.dice = random.Random(seed)
        self.plan = plan_of(self.dice)
        self._log = log
        self.now = 0.0
        self.seen = Seen()
        self.replicas: list[Replica] = []
        self._steps: Iterator[Step] = iter(())
        #: Numbers of the attempts: asked to be aborted, ended by themselves.
        self.aborted: list[int] = []
        self.ended: set[int] = set()
        self._wanted = 0
        request = parse_request(Route.CHAT, json.dumps(self.plan.body).encode())
        settings = ExchangeSettings(
            request_id=RequestId("r"), judge=Judge(self.plan.policy), nonce="n", max_event_bytes=MAX_EVENT
        )
        self.exchange = Exchange(request, settings, self.now)

    def say(self, *parts: object) -> None:
        if self._log is not None:
            self._log.append(f"{self.now:8.3f}  " + " ".join(map(str, parts)))

    def run(self) -> None:
        """
        From the request to the end.

        Raises:
            Violation: A promise was broken.
        """
        self.say("world:", self.plan)
        self._perform(self.exchange.start())
        for _ in range(10_000):
            if self.exchange.done:
                break
            if self._wanted:
                self._open()
            else:
                self._next()
        need(self.exchange.done, "every exchange ends")
        self._after_the_end()

    def _open(self) -> None:
        number, self._wanted = self._wanted, 0
        if number > 1 and self.plan.refuses:
            self._give(RetryRefused(number, "the fleet's retries are used up"))
            return
        target = Target(ReplicaId(f"replica-{number}"), self.plan.engine)
        body = json.loads(self.exchange.begin(target))
        before = said_before(body)
        if before:
            need(before == self.seen.text(), f"attempt {number} continues exactly what the client has")
        replica = Replica(number, body, self.plan, self.dice)
        self.replicas.append(replica)
        self._steps = replica.steps()
        self.say("attempt", number, "begins:", replica.fault, f"after {before!r}" if before else "")

    def _next(self) -> None:
        wait, event = next(self._steps)
        if self.now + wait >= self.plan.gone_at:
            self.now = max(self.now, self.plan.gone_at)
            self._client_goes()
            return
        self.now += wait
        if len(self.replicas) > 1 and self.dice.random() < 0.05:
            stale = UpstreamData(len(self.replicas) - 1, chunk("stale "))
            need(self.exchange.handle(stale, self.now) == [], "an attempt that was left says nothing more")
        self._give(event)

    def _give(self, event: Event) -> None:
        if isinstance(event, (UpstreamEnd, UpstreamFailed)):
            self.ended.add(event.attempt)
        self.say("->", _short(event))
        self._perform(self.exchange.handle(event, self.now))
        # The server's looks come at any time between two events, or not at all.
        if self.exchange.due and self._wanted == 0 and not self.seen.gone and self.dice.random() < 0.5:
            self.say("-> a look")
            self._perform(self.exchange.look(self.now))

    def _client_goes(self) -> None:
        self.seen.gone = True
        self.say("the client goes")
        for command in self.exchange.handle(ClientGone(), self.now):
            need(isinstance(command, (AbortAttempt, Finish)), f"nothing is sent to a client that went: {command}")
            self._take(command)

    def _perform(self, commands: list[Command]) -> None:
        kept = True
        for command in commands:
            # What the core said counts, also what a client that goes in the middle keeps from being done.
            if kept or not isinstance(command, (SendBody, SendHead, OpenAttempt)):
                self._take(command)
            if isinstance(command, SendBody) and kept:
                self.now += self.plan.slow
                if self.now >= self.plan.gone_at and not self.seen.gone:
                    kept = False
                    self.seen.gone = True
        if not kept:
            self._wanted = 0
            self._client_goes()

    def _take(self, command: Command) -> None:
        seen = self.seen
        self.say("<-", _short(command))
        need(not seen.finished, "nothing follows Finish")
        match command:
            case OpenAttempt(attempt=number):
                need(number == len(self.replicas) + 1, "attempts are numbered one after another")
                self._no_attempt_is_left_open()
                self._wanted = number
            case AbortAttempt(attempt=number):
                need(number == len(self.replicas), "the attempt that is aborted is the current one")
                need(number not in self.aborted, "an attempt is aborted at most once")
                need(number not in self.ended, "an attempt that ended is not aborted")
                self.aborted.append(number)
            case SendHead(status=status, headers=headers):
                need(seen.status is None, "one head")
                seen.status, seen.headers = status, dict(headers)
                seen.relayed = self.replicas[-1].fault in ("busy", "not_a_stream")
            case SendBody(data=data):
                need(seen.status is not None, "the head goes before the body")
                seen.sent += data
            case Finish(whole=whole):
                seen.finished.append(whole)

    def _no_attempt_is_left_open(self) -> None:
        for replica in self.replicas:
            known = replica.number in self.ended or replica.number in self.aborted
            need(known, f"attempt {replica.number} was left open")

    def _after_the_end(self) -> None:
        need(len(self.seen.finished) == 1, "exactly one Finish")
        for event in (ClientGone(), UpstreamEnd(len(self.replicas)), UpstreamData(1, DONE)):
            need(self.exchange.handle(event, self.now) == [], "nothing comes of an event after the end")
        self._no_attempt_is_left_open()
        most = self.plan.policy.retry.max_attempts
        need(len(self.replicas) <= most, f"no more than {most} attempts")


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 300 else text[:297] + "..."
