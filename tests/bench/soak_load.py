"""
The clients of the soak: so many streams at once, each read to its end and held against what was to be said.

Some go before the head comes, some in the middle, some read slowly, some want one body. What each does follows from
the seed, its place and its turn.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import msgspec

from tests.bench.soak_script import MODEL, Story, common, position, stories

#: Shares of the clients that go before the head, go in the middle, read slowly, and want one body.
EARLY, MIDDLE, SLOW, WHOLE = 0.03, 0.05, 0.03, 0.1
#: Added to each chunk for a client that reads slowly, so that what it does not read is more than sockets hold.
PADDING = 32_768
#: Longest that an answer may take. Unit: seconds.
HUNG = 300.0
#: HTTP's own end of a chunked body, after another chunk.
LAST = b"\r\n0\r\n\r\n"
#: Outcomes that no fault excuses.
VIOLATIONS = ("wrong", "looks whole", "no answer", "hung")


class Manner(NamedTuple):
    """
    How one request is made and read.

    Args:
        story, pace, padding: What the replica is told. Units: number, ms, bytes.
        stream: Whether it is streamed.
        leaves: Answer bytes after which the client goes; None if it stays.
        rest: How long a slow reader does not read, each time. Unit: seconds.
    """

    story: int
    pace: int
    padding: int = 0
    stream: bool = True
    leaves: int | None = None
    rest: float = 0.0


def manner(dice: random.Random, pace: tuple[int, int]) -> Manner:
    """One client's doing."""
    draw, number, between = dice.random(), dice.randrange(len(stories())), dice.randint(*pace)
    if draw < EARLY:
        return Manner(number, between, leaves=0)
    if draw < EARLY + MIDDLE:
        return Manner(number, between, leaves=dice.randrange(500, 40_000))
    if draw < EARLY + MIDDLE + SLOW:
        return Manner(number, 10, PADDING, rest=dice.uniform(0.5, 5.0))
    return Manner(number, between, stream=draw < 1 - WHOLE)


class Stream(asyncio.Protocol):
    """One request on a connection of its own."""

    def __init__(self, request: bytes, how: Manner, dice: random.Random) -> None:
        self._request, self._how, self._dice = request, how, dice
        self._parts: list[bytes] = []
        self._size = 0
        self._loop = asyncio.get_running_loop()
        self._rests = 4
        self.over: asyncio.Future[bytes] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._how.padding:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self._transport.write(self._request)
        if self._how.leaves == 0:
            self._loop.call_later(self._dice.uniform(0.0, 0.1), self._leave)

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        gone = self._how.leaves is not None and self._size > self._how.leaves
        if gone or (data.endswith(b"\r\n") and b"".join(self._parts[-3:]).endswith(LAST)):
            self._leave()
        elif self._how.rest and self._rests and self._size > 200_000 * (5 - self._rests):
            self._rests -= 1
            self._transport.pause_reading()
            self._loop.call_later(self._how.rest, self._go_on)

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def _leave(self) -> None:
        if not self.over.done():
            self.over.set_result(b"".join(self._parts))
        self._transport.abort()


class Answer(NamedTuple):
    """What an answer comes to."""

    status: int
    headers: str
    text: str
    finish: str
    done: int
    error: str
    told: dict[str, Any]


def read(raw: bytes) -> Answer | None:
    """An answer, however far it came; None without a head."""
    head, found, rest = raw.partition(b"\r\n\r\n")
    if not found:
        return None
    headers, status = head.decode("latin-1").lower(), int(head.split(b" ", 2)[1])
    body = unframed(rest) if "transfer-encoding: chunked" in headers else rest
    if "text/event-stream" not in headers:
        try:
            one = msgspec.json.decode(body)
        except msgspec.DecodeError:
            one = {}
        choices = one.get("choices") or [{}]
        text = (choices[0].get("message") or {}).get("content") or ""
        return Answer(status, headers, text, choices[0].get("finish_reason") or "", 0, _error(one), {})
    text, finish, done, error, told = [], "", 0, "", {}
    for line in body.split(b"\n"):
        if line.startswith(b"data: {"):
            try:
                event = msgspec.json.decode(line[6:])
            except msgspec.DecodeError:
                continue  # cut in its middle
            error = error or _error(event)
            for choice in event.get("choices", ()):
                text.append(choice["delta"].get("content") or "")
                finish = choice.get("finish_reason") or finish
        elif line.startswith(b"data: [DONE]"):
            done += 1
        elif line.startswith(b": guard {"):
            told = msgspec.json.decode(line[8:])
    return Answer(status, headers, "".join(text), finish, done, error, told)


def _error(event: dict[str, Any]) -> str:
    error = event.get("error")
    return str(error.get("message", error)) if isinstance(error, dict) else ""


def unframed(data: bytes) -> bytes:
    """Take HTTP's own chunks off, as many as are whole."""
    at, parts = 0, []
    while (line := data.find(b"\r\n", at)) >= 0:
        stop = line + 2 + int(data[at:line], 16)
        if len(data) < stop + 2:
            break
        parts.append(data[line + 2 : stop])
        at = stop + 2
    return b"".join(parts)


def judged(how: Manner, raw: bytes, whole: bool) -> tuple[str, str]:
    """
    What became of one request, and in what words.

    Args:
        how: What was asked.
        raw: Everything that was read.
        whole: Whether HTTP's own end was read.
    """
    story, answer = stories()[how.story], read(raw)
    if how.leaves is not None and not (answer is not None and (whole or answer.error)):
        right = answer is None or position(answer.text, story.text, story.bad_text) is not None
        return ("left", "") if right else ("wrong", "read before it left")
    if answer is None:
        return "no answer", repr(raw[:80])
    if answer.status == 503 and "too many requests" in answer.error:
        return ("turned away", "") if "retry-after:" in answer.headers else ("wrong", "503 without Retry-After")
    return (_streamed if how.stream else _bodily)(story, answer, whole)


def _streamed(story: Story, answer: Answer, whole: bool) -> tuple[str, str]:
    place = position(answer.text, story.text, story.bad_text)
    complete = whole and answer.done == 1 and answer.finish == "stop" and not answer.error
    if place is None:
        same = common(answer.text, story.text)
        return (
            "wrong",
            f"after {same} characters: {answer.text[same : same + 60]!r}, not {story.text[same : same + 60]!r}",
        )
    if complete and answer.text == story.text:
        return "whole", ""
    if complete and place == len(story.text):
        # The policy lets text pass while it looks good: what was shown before the verdict has to be told.
        # Where the replica broke off before there was a verdict, nobody knows of it.
        return ("garbage shown, told", "") if answer.told.get("bad_tokens_shown") else ("missed", "broken off before")
    if answer.done or (answer.finish == "stop" and not answer.error):
        missed = answer.text != story.text[: len(answer.text)]
        return ("missed" if missed else "looks whole"), f"{len(answer.text)} characters, {answer.error!r}"
    return ("error", answer.error) if answer.error else ("broken off", "")


def _bodily(story: Story, answer: Answer, whole: bool) -> tuple[str, str]:
    del whole
    if answer.status != 200:
        return ("error", answer.error) if answer.error else ("no answer", f"status {answer.status} without an error")
    if answer.text == story.text and answer.finish == "stop":
        return "whole", ""
    bad = position(answer.text, story.text, story.bad_text) is not None
    return ("missed" if bad and answer.text != story.text[: len(answer.text)] else "wrong"), answer.text[-60:]


@dataclass
class Clients:
    """
    All clients.

    Args:
        port: Of the guard.
        streams: At once.
        seed: Of what they do.
        pace: Least and most time between two chunks. Unit: ms.
    """

    port: int
    streams: int
    seed: int
    pace: tuple[int, int]
    active: int = 0
    stopping: bool = False
    requests: int = 0
    #: Of those, the ones whose clients went at once.
    early: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    words: dict[str, Counter[str]] = field(default_factory=dict)
    #: When how many were open; for the budget.
    changes: list[tuple[float, int]] = field(default_factory=list)
    slowest: float = 0.0

    async def run(self) -> None:
        """Until `stopping`, and then until each has its answer."""
        await asyncio.gather(*(self._place(slot) for slot in range(self.streams)))

    async def rush(self, many: int) -> None:
        """More clients at once than the guard lets in."""
        await asyncio.gather(*(self._ask(f"rush{number}", self.requests) for number in range(many)))

    async def _place(self, slot: int) -> None:
        dice = random.Random(f"{self.seed}/{slot}")
        await asyncio.sleep(dice.random() * self.pace[1] * 0.1)
        turn = 0
        while not self.stopping:
            turn += 1
            await self._ask(f"s{slot}", turn)
            await asyncio.sleep(0.05)

    async def _ask(self, who: str, turn: int) -> None:
        dice = random.Random(f"{self.seed}/{who}/{turn}")
        how = manner(dice, self.pace)
        self._changed(+1)
        self.requests += 1
        self.early += how.leaves == 0
        began = time.monotonic()
        try:
            outcome, words = await self._outcome(f"{who}.{turn}", how, dice)
        finally:
            self._changed(-1)
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.outcomes[outcome] += 1
        if words:
            self.words.setdefault(outcome, Counter())[words[:160]] += 1
        if outcome == "turned away":
            await asyncio.sleep(1.0)

    async def _outcome(self, name: str, how: Manner, dice: random.Random) -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HUNG):
                _, stream = await loop.create_connection(
                    lambda: Stream(self._request(name, how), how, dice), "127.0.0.1", self.port
                )
                raw = await stream.over
        except TimeoutError:
            return "hung", name
        except OSError as error:
            return "no answer", str(error)
        return judged(how, raw, raw.endswith(LAST))

    def _request(self, name: str, how: Manner) -> bytes:
        prompt = f"{name}: tell me about it. soak:{how.story}:{how.pace}:{how.padding}"
        body = json.dumps({"model": MODEL, "stream": how.stream, "messages": [{"role": "user", "content": prompt}]})
        head = f"host: 127.0.0.1\r\nx-request-id: {name}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        return f"POST /v1/chat/completions HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n{body}".encode()

    def _changed(self, by: int) -> None:
        self.active += by
        self.changes.append((time.monotonic(), self.active))
