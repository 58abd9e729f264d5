"""The client port: which requests are guarded, and their way in and out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from codecs import BOM_UTF8

import structlog
from aiohttp import web
from aiohttp.http import HttpVersion11

from guard.clock import Clock
from guard.config import Config
from guard.core.exchange import Exchange
from guard.core.record import ExchangeRecord, Outcome
from guard.core.settings import ExchangeSettings
from guard.core.tape import Tapes
from guard.errors import RequestError
from guard.fleet.affinity import prefix_key
from guard.observe.history import History
from guard.observe.log import log_exchange
from guard.observe.metrics import Metrics
from guard.observe.recorder import Recorder
from guard.observe.records import RecordStore
from guard.observe.tracing import Tracing
from guard.proto.client import ClientRequest
from guard.proto.family import Family, Notice
from guard.proto.prompt import prompt_beginning, prompt_text
from guard.proto.registry import family_at, family_near, plain_path
from guard.server.baselines import Baselines
from guard.server.client_abort import Aim, ClientAborts
from guard.server.driver import Driver
from guard.server.gate import PREFLIGHT, Gate, Held
from guard.server.live import LiveHub
from guard.server.names import new_name
from guard.server.outlet import reset_unless_ended
from guard.server.passthrough import relay
from guard.server.policies import PolicySet
from guard.server.preflight import METHOD, is_preflight, said
from guard.server.rescore import Rescorer
from guard.server.sharing import Sharing
from guard.server.streams import Streams
from guard.server.unpack import ACCEPTED, coding_of, unpacked
from guard.server.upstream import UpstreamPool
from guard.server.withdraw import Withdrawals
from guard.state.store import StateStore
from guard.types import RequestId

#: A client's request id is kept if it is safe to log and to send on; else a new one is made.
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Guard:
    """Everything one process shares between its requests."""

    def __init__(
        self,
        config: Config,
        policies: PolicySet,
        pool: UpstreamPool,
        clock: Clock,
        baselines: Baselines,
        store: StateStore,
        recorder: Recorder | None = None,
        tracing: Tracing | None = None,
        rescorer: Rescorer | None = None,
    ) -> None:
        self.config = config
        self.policies = policies
        self.pool = pool
        self.clock = clock
        self.metrics = Metrics(policies, recorder, pool, self._replicas)
        self.history = History(self._replicas)
        self.started_at = time.time()
        self.records = RecordStore()
        self.live = LiveHub(self.metrics)
        self.streams = Streams(self.metrics)
        self.baselines = baselines
        self.recorder = recorder
        self.tracing = tracing
        self.gate = Gate(config.access, config.limits)
        self.metrics.refused = self.gate.refused
        self.metrics.tasks = lambda: len(asyncio.all_tasks())
        self.rescorer = rescorer
        self.capabilities = pool.capabilities
        self.client_aborts = ClientAborts(pool)
        #: Takes spoilt prompts out of prefix caches.
        self.withdrawals = Withdrawals(pool, clock)
        self.metrics.withdrawals = self.withdrawals.counts
        if rescorer is not None:
            self.metrics.rescores = rescorer
            rescorer.revised = self._revised
        self.draining = False
        #: Whether the time to drain is over: what is open now is broken off.
        self.stopping = False
        #: Requests that were still open when it was.
        self.cut = 0
        self.metrics.store = store
        self.sharing = Sharing(
            store,
            baselines,
            lambda: self.metrics.in_flight,
            self._replicas,
            rescorer.floors if rescorer is not None else None,
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of a client, whatever its path and method; see aiohttp.web.Server."""
        if request.version >= HttpVersion11:
            return await self._handle(request)
        with reset_unless_ended(request):
            return await self._handle(request)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        request_id = self._request_id(request)
        path = plain_path(request.path)
        family = family_at(path, request.method)
        form = family or family_near(path)
        try:
            preflight = is_preflight(request)
            owner = self.gate.enter(request.raw_path, request.headers, preflight=preflight)
        except RequestError as error:
            return self._refusal(form, error, request_id)
        try:
            self.pool.outgoing.check_loop(request.headers)
            if "Expect" in request.headers:
                await _let_send(request)
            if family is None:
                # A preflight is offered where the request is that it asks for.
                if not preflight or family_at(path, request.headers[METHOD]) is None:
                    self.gate.check_other(request.path)
                self.metrics.passthrough += 1
                headers = said(request.headers) if owner == PREFLIGHT else request.headers
                aim = await self._aim(request)
                return await relay(request, headers, self.pool, request_id, self.config.limits.retry_after, aim)
            with Held(self.gate) as held:
                # The engines, too, take no notice of the mark that some editors put before a text.
                asked = family.parse(path, (await self._body(request, held)).removeprefix(BOM_UTF8))
                return await self._guarded(request, asked, request_id, owner)
        except RequestError as error:
            return self._refusal(form, error, request_id)
        finally:
            self.gate.leave(owner)

    async def _aim(self, request: web.BaseRequest) -> Aim | None:
        """Where a client's own abort goes; None for any other request, whose body is left unread."""
        if not self.client_aborts.concerns(request):
            return None
        with Held(self.gate) as held:
            return self.client_aborts.aim(await self._body(request, held))

    def _replicas(self) -> list[str]:
        return [upstream.name for upstream in self.pool.upstreams]

    async def drain(self, spent: float = 0.0) -> None:
        """
        Wait until no request is open, at most for `timeouts.drain`.

        Args:
            spent: What of that is over. Unit: seconds.
        """
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(self.config.timeouts.drain - spent, 0.0)):
                    await self.gate.empty()
        finally:  # a second signal ends the wait as well
            self.stopping, self.cut = True, self.gate.inside

    async def _body(self, request: web.BaseRequest, held: Held) -> bytes:
        coding = coding_of(request.headers.get("Content-Encoding", ""))
        limits, patience = self.config.limits, self.config.timeouts.request_body
        try:
            if request.content.is_eof():  # most bodies came with their heads: no timer for these
                body = await self._read(request, held)
            else:
                async with asyncio.timeout(patience):
                    body = await self._read(request, held)
        except TimeoutError as error:
            raise RequestError(
                f"the request body did not arrive within {patience:g} seconds (timeouts.request_body)", status=408
            ) from error
        if not coding:
            return body
        # Beside the loop: unfolding a large body takes longer than others may wait.
        plain = await asyncio.to_thread(unpacked, body, coding, limits.max_request_bytes)
        held.add(max(len(plain) - len(body), 0))
        return plain

    async def _read(self, request: web.BaseRequest, held: Held) -> bytes:
        """The body as it came; counted when it is told how long it is, or else as it comes."""
        most, told = self.config.limits.max_request_bytes, request.content_length
        pieces: list[bytes] = []
        size = 0
        if told is not None and told <= most:
            held.add(told)
        while told is None or told <= most:
            piece = await request.content.readany()
            if not piece:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
            if size > most:
                break
            if told is None:
                held.add(len(piece))
        raise RequestError(f"the request body is larger than {most} bytes (limits.max_request_bytes)", status=413)

    async def _guarded(
        self, request: web.BaseRequest, asked: ClientRequest, request_id: str, owner: str
    ) -> web.StreamResponse:
        chosen = self.policies.choose(asked, request.headers)
        draw = random.random()
        recorder = self.recorder
        tapes = Tapes(logprobs=recorder.logprobs) if recorder is not None and recorder.wants(draw) else None
        settings = ExchangeSettings(
            request_id=RequestId(request_id),
            judge=chosen.judge,
            shadow=chosen.shadow,
            nonce=new_name(),
            annotate=request.headers.get("x-guard-stream", "").strip().lower() == "acceptance",
            max_event_bytes=self.config.limits.max_event_bytes,
            tapes=tapes,
            rescore=self.rescorer is not None and self.rescorer.wants(chosen.judge.policy),
            retry_after=self.config.limits.retry_after,
            second_look=self.config.second_look,
        )
        exchange = Exchange(asked, settings, self.clock.now())
        trace = None
        if self.tracing is not None:
            trace = self.tracing.begin(request.headers, asked.route, exchange.record.model, request_id)
        key = None
        if len(self.pool.upstreams) > 1:  # else there is nothing to choose
            characters = self.config.pool.affinity.characters
            key = prefix_key(asked.model, prompt_beginning(asked, characters), characters)
        driver = Driver(exchange, request, self.pool, self.clock, request_id, self.live, key, trace, self.rescorer)
        self.metrics.in_flight += 1
        if self.rescorer is not None:
            self.rescorer.relieve(self.metrics.in_flight)
        number = self.streams.began(exchange)
        try:
            with self.client_aborts.named(asked, settings.nonce, exchange):
                response = await driver.run()
        finally:
            self.metrics.in_flight -= 1
            self.streams.ended(number)
            self._over(exchange, driver, owner)
            self.withdrawals.offer(exchange.record, asked, request.headers)
            if trace is not None:
                trace.finish(exchange.record)
            if self.recorder is not None and tapes is not None:
                prompt = prompt_text(asked) if self.recorder.settings.prompts else ""
                self.recorder.offer(exchange.record, tapes.attempts, draw, prompt)
        return response if response is not None else web.Response(status=499)

    def _over(self, exchange: Exchange, driver: Driver, owner: str) -> None:
        record = exchange.record
        record.ended_at = time.time()
        if self.stopping and record.outcome is Outcome.CLIENT_GONE:
            record.outcome = Outcome.SHUTDOWN
        if exchange.attempt is not None:
            exchange.attempt.record.suspicion_peak = round(exchange.attempt.monitor.peak, 4)
        self.metrics.aborts_sent += driver.aborts_sent
        self.metrics.aborts_repeated += driver.aborts_repeated
        self.pool.learn(record)
        self.metrics.count(record)
        self.history.count(record)
        if self.policies.shadowed:
            for attempt in record.attempts:
                # What rests on a replica being suspect is not the policy's doing.
                live = "pass" if attempt.doubted else attempt.verdict
                self.policies.compare(record.request_id, live, attempt.shadow)
        self.baselines.learn(record)
        if self.rescorer is not None:
            self.rescorer.offer(exchange, random.random())
        self.records.add(record)
        self.sharing.ended(record)
        self.live.ended(record)
        log_exchange(_log, record, owner, self.config.log.healthy, self.config.log.level)

    def _revised(self, record: ExchangeRecord) -> None:
        """An audit came after the record was kept."""
        if self.records.get(record.request_id) is not None:
            self.records.add(record)

    def _request_id(self, request: web.BaseRequest) -> str:
        given = request.headers.get("X-Request-Id", "")
        return given if given and _SAFE_ID.fullmatch(given) else new_name()

    def _refusal(self, family: Family, error: RequestError, request_id: str) -> web.Response:
        notice = Notice(error.message, error.status, error.code, "invalid_request_error", error.param)
        headers = {"X-Request-Id": request_id}
        if error.status in (429, 503):
            headers["Retry-After"] = str(self.config.limits.retry_after)
        elif error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        elif error.status == 408:
            headers["Connection"] = "close"
        elif error.status == 415:
            headers["Accept-Encoding"] = ACCEPTED
        return web.Response(
            status=error.status, body=family.error_body(notice), content_type="application/json", headers=headers
        )


async def _let_send(request: web.BaseRequest) -> None:
    """
    Meet the expectation of a client that waits with its body until it is told to go on.

    Raises:
        RequestError: 417, it expects something else.
    """
    expected = request.headers["Expect"]
    if expected.strip().lower() != "100-continue":
        raise RequestError(f"cannot meet Expect: {expected:.100}", status=417, code="expectation_failed")
    writer = request.writer
    await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    writer.output_size = 0  # of the answer, nothing has been written
