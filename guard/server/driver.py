"""Runs one exchange: performs the core's commands and feeds it what happens."""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from guard.clock import Clock
from guard.core.events import (
    AbortAttempt,
    ClientGone,
    Command,
    Confirm,
    Confirmed,
    Finish,
    Observed,
    OpenAttempt,
    RetryRefused,
    SendBody,
    SendHead,
    UpstreamEnd,
    UpstreamFailed,
    UpstreamHead,
)
from guard.core.exchange import Exchange
from guard.core.outgoing import NO_ROOM
from guard.core.record import Outcome
from guard.core.settings import Target
from guard.errors import UpstreamError
from guard.observe.tracing import Trace
from guard.rescore.compare import undecided
from guard.server.headers import for_attempt, led_home, lowered
from guard.server.outlet import ClientLeft, Outlet, joined
from guard.server.reply import Reply
from guard.server.rescore import Rescorer
from guard.server.upstream import Upstream, UpstreamPool, as_fault
from guard.types import ReplicaId

if TYPE_CHECKING:
    from guard.server._lane import Lane


class LiveSink(Protocol):
    """Where samples go while somebody listens."""

    active: bool

    def observed(self, exchange: Exchange, observed: Observed) -> None:
        """Take one batch of samples."""
        ...


class Driver:
    """
    One exchange over real connections. `run` is the whole life.

    It is the sink of the attempt's reply: a piece of the body is judged and what it releases is written where the
    piece arrives, and only what has to wait for something (`_left`, a client that does not read) wakes `run`.

    Args:
        exchange: A fresh state machine.
        request: The client's request, its body already read.
        pool: Replicas.
        clock: Times for the record.
        request_id: Sent upstream and back.
        sink: Live feed.
        key: `prefix_key` of the prompt, for the choice of the first replica.
        trace: Its spans, where traces are made.
        rescorer: Has answers scored again; None where no policy asks for it.
    """

    def __init__(
        self,
        exchange: Exchange,
        request: web.BaseRequest,
        pool: UpstreamPool,
        clock: Clock,
        request_id: str,
        sink: LiveSink,
        key: int | None = None,
        trace: Trace | None = None,
        rescorer: Rescorer | None = None,
    ) -> None:
        self._rescorer = rescorer
        self._exchange = exchange
        exchange.room = lambda: pool.shared.room
        self._request = request
        self._pool = pool
        self._clock = clock
        self._request_id = request_id
        self._sink = sink
        self._trace = trace
        self._key = key
        self._lane: Lane | None = None
        self._outlet = Outlet(request, request_id, pool.heartbeats, pool.unread)
        self._number = 0
        self._wanted = False
        self._upstream: Upstream | None = None
        self._occupied: Upstream | None = None
        self._reply: Reply | None = None
        #: Set when the reply was paused or is over.
        self._woken: asyncio.Future[None] | None = None
        #: Commands not performed yet. Should the client go meanwhile, there may be an abort among them.
        self._left: deque[Command] = deque()
        self._broken: Exception | None = None
        self._over = False
        self._tried: set[ReplicaId] = set()
        self._admitted = False
        self._aborted: set[int] = set()
        self.aborts_sent = 0
        #: Aborts of an attempt that had been aborted before: there are none, and this shows it.
        self.aborts_repeated = 0

    async def run(self) -> web.StreamResponse | None:
        """
        Drive the exchange to its end.

        Returns:
            The response, already written; None when the client went before it was begun.

        Raises:
            asyncio.CancelledError: The client went, or the server stops; the attempt in flight
                was aborted.
        """
        self._pool.exchanges += 1
        try:
            await self._perform(self._exchange.start())
            while not self._exchange.done:
                if self._wanted:
                    await self._open_attempt()
                else:
                    await self._read_attempt()
        except asyncio.CancelledError:
            self._client_gone()
            raise
        except ClientLeft:
            self._client_gone()
        except Exception as error:
            self._let_go(self._exchange.broke(type(error).__name__))
            raise
        finally:
            self._pool.exchanges -= 1
            self._leave()
            self._exchange.use(None)
            self._lane = None
            self._outlet.still()
        return self._outlet.response

    async def _perform(self, commands: list[Command]) -> None:
        self._left = left = deque(joined(commands))
        while left:
            match command := left.popleft():
                case SendBody(data=data):
                    await self._outlet.send(data, self._clock.now())
                case Observed():
                    self._sink.observed(self._exchange, command)
                case SendHead():
                    body = left.popleft() if left and isinstance(left[0], SendBody) else None
                    await self._head(command, body.data if isinstance(body, SendBody) else b"")
                case AbortAttempt():
                    self._abort(command)
                case Confirm():
                    await self._confirm(command)
                case OpenAttempt(attempt=number):
                    self._number = number
                    self._wanted = True
                case Finish(whole=whole):
                    await self._outlet.end(whole=whole)

    async def _confirm(self, command: Confirm) -> None:
        """Nothing more is read meanwhile; should the client go, this is cancelled with all else."""
        result = undecided("nothing here scores answers again")
        if self._rescorer is not None:
            result = await self._rescorer.confirm(self._exchange, command.onset_token)
        await self._perform(self._exchange.handle(Confirmed(command.attempt, result), self._clock.now()))

    async def _open_attempt(self) -> None:
        self._wanted = False
        self._leave()
        if self._number > 1 and not await self._admit():
            refused = RetryRefused(self._number, NO_ROOM)
            await self._perform(self._exchange.handle(refused, self._clock.now()))
            return
        try:
            upstream, target = await self._choose()
        except UpstreamError as error:
            await self._failed(error)
            return
        body = self._exchange.begin(target)
        try:
            self._reply = await self._post(upstream, body)
        except (UpstreamError, TimeoutError, OSError, ValueError) as error:
            await self._failed(as_fault(error))
            return
        status = self._reply.status
        self._pool.answered(upstream, status, self._reply.headers.get("Retry-After"))
        elsewhere = status != HTTPStatus.OK and self._pool.has_other(self._tried)
        said = self._reply.headers if status == HTTPStatus.OK else led_home(self._reply.headers.copy(), upstream.url)
        head = UpstreamHead(self._number, status, lowered(said.items()), elsewhere)
        await self._perform(self._exchange.handle(head, self._clock.now()))

    async def _choose(self) -> tuple[Upstream, Target]:
        """A replica that can make the attempt; it is occupied. Raises UpstreamError where there is none."""
        engine, passed = self._upstream.engine if self._upstream else None, set[ReplicaId]()
        while True:
            upstream = self._pool.choose(self._tried, engine, self._key)
            self._tried.add(upstream.name)
            self._occupied = upstream
            upstream.in_flight += 1
            target = await upstream.target(self._pool.session)
            why = self._exchange.cannot(target)
            if not why:
                self._upstream = upstream
                return upstream, target
            upstream.in_flight -= 1
            self._occupied = None
            if upstream.name in passed:
                raise UpstreamError("connect", f"no replica can go on with the text: {why}")
            passed.add(upstream.name)

    async def _admit(self) -> bool:
        """Ask the fleet's budget for this retry; it is given back when the replica is let go of."""
        await asyncio.sleep(0)  # the end of the retry before this one is told first, so that it leaves room
        self._admitted = await self._pool.shared.admit_retry(self._pool.exchanges)
        self._pool.retries_refused += not self._admitted
        return self._admitted

    async def _post(self, upstream: Upstream, body: bytes) -> Reply:
        """Send the attempt's request."""
        headers = self._pool.outgoing.sign(for_attempt(self._request.headers, self._request_id))
        if self._trace is not None:
            headers.update(self._trace.attempt(self._number, upstream.name, upstream.url))
        path, prepare = self._request.raw_path, self._exchange.prepare
        return await self._pool.connections.post(upstream.origin, path, headers, body, prepare)

    async def _read_attempt(self) -> None:
        """Read until the attempt ends, or until the core wants something else."""
        reply, exchange = self._reply, self._exchange
        if reply is None:
            await self._failed(UpstreamError("reset", "the backend's connection is gone"))
            return
        self._over = False
        with self._pool.watchdog.watching(reply):
            await self._started(reply)
            while not self._over:
                if self._broken is not None:
                    raise self._broken
                await self._perform(list(self._left))
                if self._wanted or exchange.done or self._reply is not reply:
                    return
                await self._outlet.drained()
                await self._started(reply, again=True)
        if reply.fault is not None and not exchange.closing:
            await self._failed(reply.fault)
            return
        commands = exchange.handle(UpstreamEnd(self._number), self._clock.now())
        if reply.status < 400 and self._occupied is not None and not exchange.record.attempts[-1].fault:
            self._pool.went_well(self._occupied)
        await self._perform(commands)

    async def _started(self, reply: Reply, *, again: bool = False) -> None:
        """Let the reply come until it was paused or is over."""
        self._woken = asyncio.get_running_loop().create_future()
        reply.since = self._clock.now()
        if again:
            if self._lane is None:
                self._lane = self._outlet.lane(self._sink, self._clock.now)
                self._exchange.use(self._lane)
            if self._lane is not None:
                reply.use(self._lane)
            reply.resume()
        else:
            reply.read(self)
        await self._woken

    def take(self, data: bytes) -> None:
        """See Sink."""
        exchange, outlet, reply = self._exchange, self._outlet, self._reply
        assert reply is not None
        try:
            exchange.live = self._sink.active
            reply.since = now = self._clock.now()
            passed = exchange.pass_on(self._number, data, now)
            if not passed:
                self._at_once(exchange.read(self._number, data, now), now)
            elif not outlet.put(passed, now):
                self._at_once([SendBody(passed)], now)
            if exchange.due:
                self._pool.looks.add(self)
        except Exception as error:
            self.broken(error)
        if outlet.full:
            self._wake()

    def passed(self) -> None:
        """See Sink."""
        if self._lane is not None and self._lane.due:
            self._pool.looks.add(self)
        if self._outlet.full:
            self._wake()

    def broken(self, error: Exception) -> None:
        """See Sink: `run` raises it."""
        self._broken = error
        self._wake()

    def _at_once(self, commands: list[Command], now: float) -> None:
        """Perform what needs no waiting; the rest is left to `run`."""
        exchange, outlet = self._exchange, self._outlet
        if len(commands) > 1:
            commands = joined(commands)
        for place, command in enumerate(commands):
            try:
                if isinstance(command, SendBody) and outlet.put(command.data, now):
                    continue
            except ClientLeft:
                self._left = deque(commands[place + 1 :])
                raise
            if isinstance(command, Observed):
                self._sink.observed(exchange, command)
            else:
                self._left = deque(commands[place:])
                self._wake()
                return

    def look(self) -> None:
        """See Looked. While nothing is read, `run` is at work, and the next piece will see to it."""
        if self._reply is None or not self._reply.waiting:
            return
        now = self._clock.now()
        try:
            if commands := self._exchange.look(now):
                self._at_once(commands, now)
        except Exception as error:
            self.broken(error)

    def over(self) -> None:
        """See Sink."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        """Nothing more is read until `run` has seen to what there is."""
        if self._reply is not None:
            self._reply.pause()
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _failed(self, fault: UpstreamError) -> None:
        if (upstream := self._occupied) is not None:
            self._pool.failed(upstream, fault)
            if fault.kind == "timeout" and (attempt := self._exchange.attempt) is not None and attempt.rid:
                self._pool.aborted(upstream, attempt.rid, self._request.headers)  # it may be at work on it still
        await self._perform(self._exchange.handle(UpstreamFailed(self._number, fault), self._clock.now()))

    def _client_gone(self) -> None:
        self._let_go(self._exchange.handle(ClientGone(), self._clock.now()))

    def _let_go(self, commands: list[Command]) -> None:
        # Only an abort can come of it, and that needs no waiting. One that was ordered already comes no second time.
        for command in (*self._left, *commands):
            if isinstance(command, AbortAttempt):
                self._abort(command)
        self._leave()

    def _abort(self, command: AbortAttempt) -> None:
        self.aborts_sent += 1
        self.aborts_repeated += command.attempt in self._aborted
        self._aborted.add(command.attempt)
        upstream = self._occupied
        self._leave()
        if upstream is not None:
            self._pool.aborted(upstream, command.rid, self._request.headers)

    def _leave(self) -> None:
        """
        Let go of the replica. Closing the connection is the abort that every engine understands;
        after the whole body was read it does nothing, and the connection is used again.
        """
        if self._occupied is not None:
            self._occupied.in_flight -= 1
            self._occupied = None
            if self._trace is not None:
                self._trace.attempt_over()
        if self._admitted:
            self._admitted = False
            self._pool.retry_done()
        if self._reply is not None:
            self._reply.close()
            self._reply = None

    async def _head(self, command: SendHead, first: bytes) -> None:
        record = self._exchange.record
        # What is relayed may be in the middle of an event.
        whole_events = record.stream and record.outcome is not Outcome.RELAYED
        await self._outlet.begin(command.status, command.headers, beats=whole_events, first=first)
