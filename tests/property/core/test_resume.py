"""
Exactness of a resumed answer: wherever an attempt breaks off or is given up, the client's text is the whole
answer, nothing lost, nothing twice, and its usage is that of one attempt.

The backend here continues exactly what it is asked to continue, with token borders of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.core.events import (
    AbortAttempt,
    Command,
    Finish,
    OpenAttempt,
    SendBody,
    UpstreamData,
    UpstreamEnd,
    UpstreamFailed,
    UpstreamHead,
)
from guard.core.exchange import Exchange
from guard.core.record import Outcome
from guard.core.settings import ExchangeSettings, Target
from guard.errors import UpstreamError
from guard.policy.judge import Judge
from guard.policy.schema import HoldBack
from guard.proto.registry import family_at
from guard.types import ReplicaId, RequestId
from tests.unit.core.transcript import FULL, SSE, WINDOW_8, policy

DONE = b"data: [DONE]\n\n"
#: One, two, three and four bytes a character, combining marks, a family of four, line ends, quotes.
ANSWER = 'Grüße, "世界"!\n\nZoë e\u0301 👨‍👩‍👧‍👦 𝔘 ende \\ .'


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


@dataclass(frozen=True)
class Wire:
    """How one route is asked and answers."""

    path: str
    engine: str
    prompt: dict[str, Any]
    chunk: Callable[[str, bool], dict[str, Any]]
    end: Callable[[int, int], list[bytes]]
    text: Callable[[dict[str, Any]], str]
    shown: Callable[[dict[str, Any]], str]


def _chat(text: str, bad: bool) -> dict[str, Any]:
    steps = {"per_step_accepted": [0 if bad else 2], "per_step_drafted": [2]}
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, "token_ids": [1]}
    return {"id": "c", "created": 1, "choices": [choice], "metrics": {"speculative_decoding": steps}}


def _chat_end(prompt: int, tokens: int) -> list[bytes]:
    finish = {"id": "c", "created": 1, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    return [event(finish), event({"id": "c", "created": 1, "choices": [], "usage": usage}), DONE]


def _completion(text: str, bad: bool) -> dict[str, Any]:
    steps = {"per_step_accepted": [0 if bad else 2], "per_step_drafted": [2]}
    choice = {"index": 0, "text": text, "finish_reason": None, "token_ids": [1]}
    return {"id": "c", "created": 1, "choices": [choice], "metrics": {"speculative_decoding": steps}}


def _completion_end(prompt: int, tokens: int) -> list[bytes]:
    finish = {"id": "c", "created": 1, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    return [event(finish), event({"id": "c", "created": 1, "choices": [], "usage": usage}), DONE]


def _after_user(body: dict[str, Any]) -> str:
    last = body["messages"][-1]
    return last["content"] if last["role"] == "assistant" else ""


CHAT = Wire(
    "/v1/chat/completions",
    "vllm",
    {"messages": [{"role": "user", "content": "hi"}], "stream_options": {"include_usage": True}},
    _chat,
    _chat_end,
    lambda body: "".join(c["delta"].get("content") or "" for c in body["choices"]),
    _after_user,
)
COMPLETIONS = Wire(
    "/v1/completions",
    "vllm",
    {"prompt": "Say: ", "stream_options": {"include_usage": True}},
    _completion,
    _completion_end,
    lambda body: "".join(c["text"] for c in body["choices"]),
    lambda body: body["prompt"].removeprefix("Say: "),
)
LLAMA = Wire(
    "/completion",
    "llama.cpp",
    {"prompt": "Say: "},
    lambda text, bad: {"index": 0, "content": text, "stop": False},
    lambda prompt, tokens: [
        event({"index": 0, "content": "", "stop": True, "stop_type": "eos", "tokens_predicted": tokens})
    ],
    lambda body: body["content"],
    lambda body: body["prompt"].removeprefix("Say: "),
)
WIRES = [CHAT, COMPLETIONS, LLAMA]


@dataclass
class Player:
    """
    One exchange against a backend that always continues rightly.

    Args:
        wire: Its route.
        borders: Where tokens of an attempt end, by number of the attempt: a function of the text to say.
        hold: How text is held back.
        stream: Whether the client streams.
    """

    wire: Wire
    borders: Callable[[int, str], list[str]]
    hold: HoldBack = field(default_factory=HoldBack)
    answer: str = ANSWER
    sent: bytes = b""
    number: int = 0
    whole: bool | None = None
    aborted: list[int] = field(default_factory=list)
    left: bytes = b""

    def __post_init__(self) -> None:
        family = family_at(self.wire.path, "POST")
        assert family is not None
        request = family.parse(self.wire.path, json.dumps({**self.wire.prompt, "stream": True}).encode())
        judge = Judge(policy(attempts=10, hold=self.hold))
        self.exchange = Exchange(request, ExchangeSettings(RequestId("r"), judge, "n"), 0.0)
        self.take(self.exchange.start())

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, OpenAttempt):
                self.number = command.attempt
                body = json.loads(self.exchange.begin(Target(ReplicaId("a"), self.wire.engine)))
                self.left = self._say(self.wire.shown(body))
                self.take(self.exchange.handle(UpstreamHead(self.number, 200, SSE), 0.0))
            elif isinstance(command, AbortAttempt):
                self.aborted.append(command.attempt)
            elif isinstance(command, SendBody):
                self.sent += command.data
            elif isinstance(command, Finish):
                self.whole = command.whole

    def _say(self, shown: str) -> bytes:
        assert self.answer.startswith(shown), "what is to be continued is the answer's own beginning"
        pieces = self.borders(self.number, self.answer[len(shown) :])
        # Of the shown text the prompt has as many tokens as were generated for it.
        before = self.exchange.record.tokens_shown if shown else 0
        body = [event(self.wire.chunk(piece, False)) for piece in pieces]
        return b"".join([*body, *self.wire.end(5 + before, len(pieces))])

    def give(self, data: bytes) -> None:
        """These bytes of the attempt come in."""
        self.take(self.exchange.handle(UpstreamData(self.number, data), 0.0))

    def breaks(self, cut: int) -> None:
        """So many bytes of the attempt come in, then the connection breaks."""
        number, data = self.number, self.left
        self.give(data[:cut])
        if not self.exchange.done and self.number == number:
            self.take(self.exchange.handle(UpstreamFailed(number, UpstreamError("reset", "it broke")), 0.0))

    def spoils(self, pieces: int) -> None:
        """So many events of the attempt come in, then one that the policy objects to."""
        events = self.left.split(b"\n\n")
        self.give(b"\n\n".join(events[:pieces]) + b"\n\n" if pieces else b"")
        if not self.exchange.done:
            self.give(event(self.wire.chunk("<never seen>", True)))

    def ends(self) -> None:
        """The attempt says all it has to say."""
        if not self.exchange.done:
            number = self.number
            self.give(self.left)
            self.take(self.exchange.handle(UpstreamEnd(number), 0.0))

    @property
    def bodies(self) -> list[dict[str, Any]]:
        lines = self.sent.decode().split("\n")
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    def check(self) -> None:
        """The promises."""
        text = "".join(self.wire.text(body) for body in self.bodies if body.get("choices") != [])
        assert text == self.answer
        assert self.whole is True
        assert not any("error" in body for body in self.bodies)
        record = self.exchange.record
        assert record.tokens_shown + record.tokens_burned == sum(a.tokens for a in record.attempts)
        for body in self.bodies:
            if body.get("usage"):
                assert body["usage"]["completion_tokens"] == record.tokens_shown
                assert body["usage"]["prompt_tokens"] == 5


def each(_: int, text: str) -> list[str]:
    """A token a character."""
    return list(text)


def threes(number: int, text: str) -> list[str]:
    """Three characters a token, offset by the attempt's number: borders differ from attempt to attempt."""
    first = number % 3 + 1
    return [piece for piece in [text[:first], *(text[i : i + 3] for i in range(first, len(text), 3))] if piece]


@pytest.mark.parametrize("wire", WIRES, ids=lambda w: w.path)
@pytest.mark.parametrize("hold", [HoldBack(), WINDOW_8], ids=["suspicion", "window"])
def test_whatever_byte_the_connection_breaks_at(wire: Wire, hold: HoldBack) -> None:
    size = len(Player(wire, threes, hold).left)
    for cut in range(size + 1):
        player = Player(wire, threes, hold)
        player.breaks(cut)
        player.ends()
        player.check()


@pytest.mark.parametrize("wire", [CHAT, COMPLETIONS], ids=lambda w: w.path)
@pytest.mark.parametrize("hold", [HoldBack(), WINDOW_8, FULL], ids=["suspicion", "window", "full"])
def test_whatever_token_an_attempt_is_given_up_at(wire: Wire, hold: HoldBack) -> None:
    for pieces in range(len(ANSWER) + 1):
        player = Player(wire, each, hold)
        player.spoils(pieces)
        player.ends()
        player.check()
        record = player.exchange.record
        assert record.outcome is Outcome.RESCUED
        assert player.aborted == [1]
        assert record.attempts[1].mode == ("resume" if record.attempts[0].tokens_shown else "restart")


PIECES = st.lists(st.integers(1, 7), min_size=1, max_size=60)


@settings(max_examples=300)
@given(
    st.sampled_from(WIRES),
    st.sampled_from([HoldBack(), WINDOW_8]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(lambda t: "<never" not in t),
    st.lists(PIECES, min_size=4, max_size=4),
    st.lists(st.tuples(st.booleans(), st.integers(0, 4000)), max_size=3),
)
def test_several_breaks_and_verdicts_in_any_order(
    wire: Wire, hold: HoldBack, answer: str, sizes: list[list[int]], trouble: list[tuple[bool, int]]
) -> None:
    def borders(number: int, text: str) -> list[str]:
        out, place, steps = [], 0, sizes[number % 4]
        while place < len(text):
            size = steps[len(out) % len(steps)]
            out.append(text[place : place + size])
            place += size
        return out

    player = Player(wire, borders, hold, answer)
    for spoils, where in trouble:
        if player.exchange.done:
            break
        if spoils and wire is not LLAMA:
            player.spoils(where % (player.left.count(b"\n\n") - 2))
        else:
            player.breaks(where % (len(player.left) + 1))
    player.ends()
    player.check()
