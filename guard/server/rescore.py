"""
Has answers scored again on a clean cache: before a verdict is acted on (confirm), and after the end (audit).

A confirmation holds up only the stream that a rule has already spoken against. An audit is off the request path, has
a budget of its own, and gives way to load.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable

import aiohttp
import structlog
from msgspec.structs import replace

from guard.clock import Clock
from guard.config import AuditSettings
from guard.core.attempt import Attempt
from guard.core.exchange import Exchange
from guard.core.record import ExchangeRecord, Outcome
from guard.fleet.replica import Standing
from guard.observe.series import SECONDS, Histogram
from guard.policy.schema import Confirm, Policy
from guard.rescore.bucket import TokenBucket
from guard.rescore.compare import CacheVerdict, Rescored, compare, differences_of, undecided
from guard.rescore.emitted import Emitted
from guard.server.floors import Floors
from guard.server.probes import read_scores, score_request
from guard.server.upstream import Upstream, UpstreamPool
from guard.types import ReplicaId

#: Longest prompt and answer that an audit scores. Unit: tokens.
MAX_AUDIT_TOKENS = 16_384
#: The latest emitted tokens that are compared; each costs some microseconds. Unit: tokens.
MAX_COMPARED = 2_048
#: Audits that run at once.
MAX_AUDITS = 2
#: Longest that an audit may take. Unit: seconds.
AUDIT_SECONDS = 60.0
#: A backend that fails so many audits of a model in a row is asked for none any more.
MAX_REFUSALS = 20
#: An answer under more suspicion than this tells nothing about what is healthy.
CALM = 0.2

#: The pool's session sets no type by itself.
_JSON = {"Content-Type": "application/json"}
_FINISHED = frozenset({Outcome.HEALTHY, Outcome.RESCUED, Outcome.NOTED})
_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Rescorer:
    """
    All re-scorings of one process.

    Args:
        pool: Replicas.
        clock: For budgets and durations.
        audit: Which finished answers are scored; None for none but those that measure the floor for `confirm`.
        charge: Told the replica of every cache that was proven wrong.
    """

    def __init__(
        self,
        pool: UpstreamPool,
        clock: Clock,
        audit: AuditSettings | None = None,
        charge: Callable[[ReplicaId], None] | None = None,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._audits = audit is not None
        self._settings = audit or AuditSettings()
        #: Told when the record of a finished exchange has got its audit.
        self.revised: Callable[[ExchangeRecord], None] | None = None
        #: May be set later: what ejects replicas.
        self.charge = charge
        self._bucket = TokenBucket(self._settings.prefill_per_second)
        self._buckets: dict[int, TokenBucket] = {}
        self.floors = Floors(self._settings.calibrate)
        self._refusals: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self.rescored: Counter[tuple[str, str]] = Counter()
        self.skipped: Counter[str] = Counter()
        self.prefill_tokens = 0
        self.charges = 0
        self.seconds = Histogram(SECONDS)

    @property
    def settled(self) -> int:
        """Models whose floor was measured."""
        return self.floors.settled

    def wants(self, policy: Policy) -> bool:
        """Whether answers under this policy are kept for scoring."""
        return self._audits or policy.confirm is not None

    async def confirm(self, exchange: Exchange, onset_token: int) -> Rescored:
        """
        Score what an attempt has emitted so far; its text is held meanwhile.

        Args:
            exchange: It asked for this.
            onset_token: First token that is suspected.

        Returns:
            A verdict; undecided, with the reason, when none was had in time.
        """
        attempt, confirm = exchange.attempt, exchange.policy.confirm
        assert attempt is not None
        assert attempt.emitted is not None
        assert confirm is not None
        began = self._clock.now()
        result = await self._confirm(exchange, attempt, attempt.emitted, confirm, onset_token)
        self._count("confirm", attempt, result, self._clock.now() - began)
        return result

    async def _confirm(
        self, exchange: Exchange, attempt: Attempt, emitted: Emitted, confirm: Confirm, onset_token: int
    ) -> Rescored:
        if emitted.size > confirm.max_prefill:
            return self._skip("long", f"prompt and answer are longer than {confirm.max_prefill} tokens")
        if not self._bucket_of(confirm).take(emitted.size, self._clock.now()):
            return self._skip("budget", "the budget of prefill tokens is used up")
        try:
            async with asyncio.timeout(confirm.timeout):
                result, _ = await self._score(exchange.record.model, attempt, emitted, onset_token)
        except TimeoutError:
            return self._skip("timeout", f"no answer within {confirm.timeout:g} s")
        return result

    def _bucket_of(self, confirm: Confirm) -> TokenBucket:
        rate = confirm.prefill_per_second
        return self._buckets.setdefault(rate, TokenBucket(rate))

    def relieve(self, in_flight: int) -> None:
        """Told how many client requests are open; with too many, audits end at once."""
        self._in_flight = in_flight
        if self._running and in_flight > self._settings.max_in_flight:
            for task in self._running:
                task.cancel()

    def offer(self, exchange: Exchange, draw: float) -> None:
        """
        A finished exchange: audited if it is drawn, if it was under suspicion, or to measure the floor.

        Args:
            exchange: Just ended.
            draw: Uniform in [0, 1).
        """
        attempt = exchange.attempt
        if attempt is None or attempt.emitted is None or exchange.record.outcome not in _FINISHED:
            return
        if attempt.record.confirm is not None and attempt.record.confirm.verdict is not CacheVerdict.UNDECIDED:
            return
        peak = attempt.monitor.peak
        calibrates = peak <= CALM and not self.floors.of(exchange.record.model).settled
        drawn = self._audits and (draw < self._settings.share or peak >= self._settings.suspicion)
        if not (calibrates or drawn):
            return
        reason = self._obstacle(attempt.emitted, exchange.record.model)
        if reason:
            self.skipped[reason] += 1
            return
        task = asyncio.create_task(self._audit(exchange, attempt, attempt.emitted), name="audit")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _obstacle(self, emitted: Emitted, model: str) -> str:
        if emitted.blocker or self._refusals[model] >= MAX_REFUSALS:
            return "unable"
        if emitted.size > MAX_AUDIT_TOKENS:
            return "long"
        if self._in_flight > self._settings.max_in_flight:
            return "load"
        if len(self._running) >= MAX_AUDITS:
            return "busy"
        return "" if self._bucket.take(emitted.size, self._clock.now()) else "budget"

    async def _audit(self, exchange: Exchange, attempt: Attempt, emitted: Emitted) -> None:
        began = self._clock.now()
        try:
            async with asyncio.timeout(AUDIT_SECONDS):
                result, differences = await self._score(exchange.record.model, attempt, emitted, 0)
        except asyncio.CancelledError:
            self.skipped["load"] += 1
            raise
        except TimeoutError:
            self.skipped["timeout"] += 1
            return
        self._count("audit", attempt, result, self._clock.now() - began)
        attempt.record.audit = result
        if self.revised is not None:
            self.revised(exchange.record)
        if differences is None:
            return
        model = exchange.record.model
        self._refusals[model] = 0 if differences else self._refusals[model] + 1
        learner = self.floors.of(model)
        calm = attempt.monitor.peak <= CALM and attempt.record.verdict == "pass"
        if differences and calm and (not learner.settled or result.verdict is not CacheVerdict.WRONG):
            self.floors.add(model, differences)

    async def _score(
        self, model: str, attempt: Attempt, emitted: Emitted, onset_token: int
    ) -> tuple[Rescored, list[float] | None]:
        """
        Ask another replica of the same engine, or the same one with a fresh salt.

        Returns:
            What it came to, and the differences: none where they were refused, None where nobody could be reached.
        """
        prompt, tokens, told = list(emitted.prompt or ()), list(emitted.tokens), list(emitted.logprobs)
        body = score_request(model, prompt, tokens, f"guard-{uuid.uuid4().hex}")
        upstream = self._elsewhere(attempt.target.replica)
        if upstream is None:
            return undecided("no replica can score answers again"), []
        upstream.in_flight += 1
        began = self._clock.now()
        try:
            url = f"{upstream.url}/v1/completions"
            async with self._pool.session.post(url, json=body, headers=_JSON, allow_redirects=False) as reply:
                status, answer = reply.status, await reply.read()
        except (aiohttp.ClientError, OSError) as error:
            return undecided(f"the backend could not be asked: {error}"), None
        finally:
            upstream.in_flight -= 1
        self.prefill_tokens += len(prompt) + len(tokens)
        if status != 200:
            return undecided(f"the backend refused with status {status}"), []
        learner = self.floors.of(model)
        try:
            again = await asyncio.to_thread(read_scores, answer, prompt, tokens)
            result = await asyncio.to_thread(
                compare,
                told[-MAX_COMPARED:],
                again[-MAX_COMPARED:],
                learner.floor,
                onset=max(onset_token - max(len(tokens) - MAX_COMPARED, 0), 0),
            )
        except ValueError as error:
            return undecided(str(error)), []
        if not learner.settled and result.verdict is not CacheVerdict.UNDECIDED:
            result = replace(result, verdict=CacheVerdict.UNDECIDED, reason="the healthy floor is not measured yet")
        seconds = round(self._clock.now() - began, 4)
        result = replace(result, prefill=len(prompt) + len(tokens), replica=upstream.name, seconds=seconds)
        return result, differences_of(told, again)

    def _elsewhere(self, replica: ReplicaId) -> Upstream | None:
        able = [u for u in self._pool.upstreams if u.engine == "vllm" and u.rescores is not False]
        # One that is left out has the fewest requests open, and would be asked every time.
        now = self._clock.now()
        ready = [u for u in able if u.replica.standing(now) is Standing.READY]
        able = ready or [u for u in able if u.name == replica]
        return min(able, key=lambda u: (u.name == replica, u.in_flight), default=None)

    def _skip(self, key: str, reason: str) -> Rescored:
        self.skipped[key] += 1
        return undecided(reason)

    def _count(self, purpose: str, attempt: Attempt, result: Rescored, seconds: float) -> None:
        self.rescored[(purpose, result.verdict.value)] += 1
        self.seconds.observe(seconds)
        if result.verdict is not CacheVerdict.WRONG:
            return
        self.charges += 1
        if self.charge is not None:
            self.charge(attempt.target.replica)
        _log.warning(
            "cache proven wrong",
            purpose=purpose,
            replica=attempt.target.replica,
            reason=result.reason,
            wrong_at=result.wrong_at,
            tokens=result.tokens,
            scored_on=result.replica,
        )

    async def close(self) -> None:
        """Cancel what runs."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
