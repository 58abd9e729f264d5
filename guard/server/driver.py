"""Runs one exchange: performs the core's commands and feeds it what happens."""

from __future__ import annotations

import asyncio
from typing import Protocol

import aiohttp
from aiohttp import web
from yarl import URL

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
    UpstreamData,
    UpstreamEnd,
    UpstreamFailed,
    UpstreamHead,
)
from guard.core.exchange import NO_ROOM, Exchange
from guard.core.record import Outcome
from guard.errors import UpstreamError
from guard.observe.tracing import Trace
from guard.rescore.compare import undecided
from guard.server.headers import for_attempt, lowered
from guard.server.heartbeat import Pulse
from guard.server.rescore import Rescorer
from guard.server.upstream import Upstream, UpstreamPool, as_fault
from guard.types import ReplicaId


class LiveSink(Protocol):
    """Where samples go while somebody listens."""

    active: bool

    def observed(self, exchange: Exchange, observed: Observed) -> None:
        """Take one batch of samples."""
        ...


class ClientLeft(Exception):
    """Writing to the client failed: its connection is gone."""


class Driver:
    """
    One exchange over real connections. `run` is the whole life.

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
        request: web.Request,
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
        self._response: web.StreamResponse | None = None
        self._pulse: Pulse | None = None
        self._number = 0
        self._wanted = False
        self._upstream: Upstream | None = None
        self._occupied: Upstream | None = None
        self._reply: aiohttp.ClientResponse | None = None
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
        finally:
            self._pool.exchanges -= 1
            self._leave()
            self._still()
        return self._response

    async def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case SendBody(data=data):
                    await self._body(data)
                case Observed():
                    self._sink.observed(self._exchange, command)
                case SendHead():
                    await self._head(command)
                case AbortAttempt():
                    self._abort(command)
                case Confirm():
                    await self._confirm(command)
                case OpenAttempt(attempt=number):
                    self._number = number
                    self._wanted = True
                case Finish(whole=whole):
                    await self._finish(whole)

    async def _confirm(self, command: Confirm) -> None:
        """Nothing more is read meanwhile; should the client go, this is cancelled with all else."""
        result = undecided("nothing here scores answers again")
        if self._rescorer is not None:
            result = await self._rescorer.confirm(self._exchange, command.onset_token)
        await self._perform(self._exchange.handle(Confirmed(command.attempt, result), self._clock.now()))

    async def _open_attempt(self) -> None:
        self._wanted = False
        self._leave()
        session = self._pool.session
        if self._number > 1 and not await self._admit():
            refused = RetryRefused(self._number, NO_ROOM)
            await self._perform(self._exchange.handle(refused, self._clock.now()))
            return
        previous = self._upstream
        try:
            upstream = self._pool.choose(self._tried, previous.engine if previous else None, self._key)
        except UpstreamError as error:
            await self._failed(error)
            return
        self._upstream = self._occupied = upstream
        self._tried.add(upstream.name)
        upstream.in_flight += 1
        body = self._exchange.begin(await upstream.target(session))
        try:
            async with asyncio.timeout(self._pool.idle):
                self._reply = await self._post(upstream, body)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            await self._failed(as_fault(error))
            return
        status = self._reply.status
        self._pool.answered(upstream, status, self._reply.headers.get("Retry-After"))
        elsewhere = status != 200 and self._pool.has_other(self._tried)
        head = UpstreamHead(self._number, status, lowered(self._reply.headers.items()), elsewhere)
        await self._perform(self._exchange.handle(head, self._clock.now()))

    async def _admit(self) -> bool:
        """Ask the fleet's budget for this retry; it is given back when the replica is let go of."""
        await asyncio.sleep(0)  # the end of the retry before this one is told first, so that it leaves room
        self._admitted = await self._pool.shared.admit_retry(self._pool.exchanges)
        self._pool.retries_refused += not self._admitted
        return self._admitted

    async def _post(self, upstream: Upstream, body: bytes) -> aiohttp.ClientResponse:
        """
        Send the attempt's request.

        A kept-alive connection that the backend has closed meanwhile fails before a byte of an
        answer came; the request is then sent once more, on a new connection.
        """
        url = URL(upstream.url + self._request.raw_path, encoded=True)
        headers = self._pool.outgoing.sign(for_attempt(self._request.headers, self._request_id))
        if self._trace is not None:
            headers.update(self._trace.attempt(self._number, upstream.name, upstream.url))
        try:
            return await self._pool.session.post(url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            headers["Connection"] = "close"
            return await self._pool.session.post(url, data=body, headers=headers, allow_redirects=False)

    async def _read_attempt(self) -> None:
        """Read until the attempt ends, or until the core wants something else."""
        reply, number, exchange = self._reply, self._number, self._exchange
        clock, sink = self._clock, self._sink
        if reply is None:
            await self._failed(UpstreamError("reset", "the backend's connection is gone"))
            return
        try:
            with self._pool.watchdog.watching(reply) as read:
                async for data in reply.content.iter_any():
                    read.waiting = False
                    exchange.live = sink.active
                    now = clock.now()
                    commands = exchange.handle(UpstreamData(number, data), now)
                    if commands:
                        await self._perform(commands)
                        if self._wanted or exchange.done:
                            return
                        now = clock.now()
                    read.since = now
                    read.waiting = True
        except (TimeoutError, aiohttp.ClientError) as error:
            await self._failed(as_fault(error))
            return
        if reply.status < 400 and self._occupied is not None:
            self._pool.went_well(self._occupied)
        await self._perform(exchange.handle(UpstreamEnd(number), clock.now()))

    async def _failed(self, fault: UpstreamError) -> None:
        if self._occupied is not None:
            self._pool.failed(self._occupied, fault)
        await self._perform(self._exchange.handle(UpstreamFailed(self._number, fault), self._clock.now()))

    def _client_gone(self) -> None:
        # Only an abort can come of it, and that needs no waiting.
        for command in self._exchange.handle(ClientGone(), self._clock.now()):
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
            self._pool.aborted(upstream, command.rid)

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

    async def _head(self, command: SendHead) -> None:
        response = web.StreamResponse(status=command.status)
        for name, value in command.headers:
            response.headers.add(name, value)
        response.headers["x-request-id"] = self._request_id
        self._response = response
        try:
            await response.prepare(self._request)
        except ConnectionError as error:
            raise ClientLeft from error
        record = self._exchange.record
        # What is relayed may be in the middle of an event.
        whole_events = record.stream and record.outcome is not Outcome.RELAYED
        if whole_events and response.content_type == "text/event-stream":
            self._pulse = self._pool.heartbeats.start(response)

    async def _body(self, data: bytes) -> None:
        assert self._response is not None
        try:
            await self._response.write(data)
        except ConnectionError as error:
            raise ClientLeft from error
        if self._pulse is not None:
            self._pool.heartbeats.written(self._pulse)

    def _still(self) -> None:
        """No more heartbeats."""
        if self._pulse is not None:
            self._pool.heartbeats.stop(self._pulse)
            self._pulse = None

    async def _finish(self, whole: bool) -> None:
        self._still()
        if self._response is None:
            return
        if whole:
            try:
                await self._response.write_eof()
            except ConnectionError as error:
                raise ClientLeft from error
        elif self._request.transport is not None:
            self._request.transport.abort()
