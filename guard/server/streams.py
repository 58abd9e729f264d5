"""
The streams in flight, told twice a second to whoever watches: the dashboard's live view.

Nothing is done per chunk. What an exchange records anyway is looked at on each tick, and only what is new since
the one before is sent; a tick is encoded once for all listeners.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec
from aiohttp import web

from guard.core.exchange import Exchange
from guard.core.record import AttemptRecord, ExchangeRecord
from guard.observe.metrics import Metrics
from guard.server.feed import Feed

#: Between two ticks. Unit: seconds.
TICK = 0.5
#: Ticks a listener may be behind before it is dropped.
MAX_BEHIND = 12
#: Streams told of; the others are only counted.
MOST_STREAMS = 2000
#: Latest verify steps of a stream that a new listener gets, and most that one tick tells of a stream.
SHOWN_STEPS = 96
#: Streams looked at before others have their turn.
SLICE = 200
#: Finished exchanges that one tick tells of.
MOST_ENDED = 500

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct, omit_defaults=True):
    """
    One stream, as it is at first or as far as it changed.

    Args:
        i: Number of the stream in this process.
        id: Request id.
        m: Model.
        p: Policy.
        b: Arrival. Unit: seconds since 1970.
        a: Number of the attempt.
        r: Its replica.
        t: Tokens of the attempt so far.
        s: Suspicion.
        d: Deepest draft of the new steps.
        k: New verify steps, one digit to the base of 36 each: tokens kept; "-" without a known draft.
    """

    i: int
    id: str = ""
    m: str = ""
    p: str = ""
    b: float = 0.0
    a: int = 0
    r: str = ""
    t: int = -1
    s: float = -1.0
    d: int = 0
    k: str = ""


class _Watched:
    """An exchange in flight, and what of it was told."""

    __slots__ = ("arrived", "attempt", "exchange", "number", "steps", "suspicion", "tokens")

    def __init__(self, number: int, exchange: Exchange, arrived: float) -> None:
        self.number = number
        self.exchange = exchange
        self.arrived = arrived
        self.attempt = self.steps = 0
        self.tokens = -1
        self.suspicion = 0.0


class Streams:
    """
    Registry of the exchanges in flight, and their feed.

    Args:
        metrics: Counts the listeners.
        wall: Tells the time. Unit: seconds since 1970.
    """

    def __init__(self, metrics: Metrics, wall: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._wall = wall
        self._number = 0
        self._inside: dict[int, _Watched] = {}
        self._lines: list[Line] = []
        self._ended: deque[tuple[int, ExchangeRecord]] = deque(maxlen=MOST_ENDED)
        self._feed = Feed(MAX_BEHIND, self._count, self._drop)
        self._listeners = 0
        self._ticking: asyncio.Task[None] | None = None

    def began(self, exchange: Exchange) -> int:
        """
        An exchange is under way.

        Returns:
            Its number, for `ended`.
        """
        self._number += 1
        self._inside[self._number] = _Watched(self._number, exchange, self._wall())
        return self._number

    def ended(self, number: int) -> None:
        """It is over."""
        watched = self._inside.pop(number)
        if self._listeners:
            self._ended.append((number, watched.exchange.record))

    def find(self, request_id: str) -> ExchangeRecord | None:
        """The record of an exchange in flight, as far as it is."""
        for watched in self._inside.values():
            if watched.exchange.record.request_id == request_id:
                return watched.exchange.record
        return None

    def __len__(self) -> int:
        return len(self._inside)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Handler of GET /guard/streams."""
        return await self._feed.serve(request, self._snapshot)

    def close(self) -> None:
        """End the feed."""
        self._feed.close()

    def _count(self, listeners: int) -> None:
        self._metrics.live_listeners += listeners - self._listeners
        self._listeners = listeners
        if listeners and self._ticking is None:
            self._ticking = asyncio.create_task(self._run(), name="streams")
        elif not listeners and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
            self._ended.clear()

    def _drop(self) -> None:
        self._metrics.live_dropped += 1

    async def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(TICK)
                await self._tick()

    async def _tick(self) -> None:
        """Tell what changed. Streams have their turn in between, whatever their number."""
        for place, watched in enumerate(list(self._inside.values())[:MOST_STREAMS], 1):
            line = _changed(watched)
            if line is not None:
                self._lines.append(line)
            if place % SLICE == 0:
                await asyncio.sleep(0)
        self._publish()

    def _publish(self) -> None:
        lines, self._lines = self._lines, []
        ended, self._ended = self._ended, deque(maxlen=MOST_ENDED)
        over = [{"i": number, **record.summary()} for number, record in ended]
        body = {"open": len(self._inside), "streams": lines, "ended": over}
        self._feed.publish(b"event: tick\ndata: " + _encode(body) + b"\n\n")

    def _snapshot(self) -> bytes:
        """All streams as the ticks so far have told them, so that the next tick follows."""
        if self._lines:
            self._publish()  # in the middle of a tick: the others get now what the new one gets with this
        lines = [_as_told(watched) for watched in list(self._inside.values())[:MOST_STREAMS] if watched.tokens >= 0]
        body: Mapping[str, object] = {"open": len(self._inside), "streams": lines, "now": self._wall()}
        return b"event: snapshot\ndata: " + _encode(body) + b"\n\n"


def _changed(watched: _Watched) -> Line | None:
    record = watched.exchange.record
    new = watched.tokens < 0
    if not record.attempts:
        if not new:
            return None
        watched.tokens = 0
        return _whole(watched, None)
    attempt = record.attempts[-1]
    suspicion = attempt.suspicions[-1][1] if attempt.suspicions else 0.0
    other = attempt.number != watched.attempt
    if other:
        watched.attempt, watched.steps = attempt.number, 0
    if not (new or other) and attempt.tokens == watched.tokens and suspicion == watched.suspicion:
        return None
    watched.tokens, watched.suspicion = attempt.tokens, suspicion
    first = max(watched.steps, len(attempt.accepted) - SHOWN_STEPS)
    watched.steps = len(attempt.accepted)
    line = _whole(watched, attempt) if new else Line(watched.number)
    if other:
        line.a, line.r = attempt.number, attempt.replica
    line.t, line.s = attempt.tokens, suspicion
    line.d, line.k = _digits(attempt, first, watched.steps)
    return line


def _whole(watched: _Watched, attempt: AttemptRecord | None) -> Line:
    record = watched.exchange.record
    line = Line(watched.number, id=record.request_id, m=record.model, p=record.policy, b=watched.arrived, t=0, s=0.0)
    if attempt is not None:
        line.a, line.r = attempt.number, attempt.replica
    return line


def _as_told(watched: _Watched) -> Line:
    attempts = watched.exchange.record.attempts
    attempt = attempts[watched.attempt - 1] if 0 < watched.attempt <= len(attempts) else None
    line = _whole(watched, attempt)
    line.t, line.s = watched.tokens, watched.suspicion
    if attempt is not None:
        line.d, line.k = _digits(attempt, max(0, watched.steps - SHOWN_STEPS), watched.steps)
    return line


def _digits(attempt: AttemptRecord, first: int, end: int) -> tuple[int, str]:
    drafted = attempt.drafted[first:end]
    kept = attempt.accepted[first:end]
    told = "".join(
        _DIGITS[min(accepted, 35)] if depth > 0 else "-" for accepted, depth in zip(kept, drafted, strict=True)
    )
    return max(drafted, default=0), told
