"""
Takes a spoilt prompt out of a replica's prefix cache, once an answer computed on it was found corrupted.

A retry leaves the prefix cache aside, so the client gets a clean answer; the spoilt blocks stay, and the next request
with the same beginning reads them. vLLM with the race-free plugin withdraws them when the same prompt comes again with
`guard_withdraw` (`backend/vllm/race_free/lineage.py`): the guard sends it, after the exchange, for one token, with the
client's own credentials. Only where the replica was proven to withdraw; one at a time for each replica, and not more
often than once in `PAUSE` seconds, for it costs the backend the reading of the prompt.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec
import structlog
from multidict import CIMultiDict

from guard.clock import Clock
from guard.core.record import AttemptRecord, ExchangeRecord
from guard.proto.client import ClientRequest
from guard.rescore.compare import CacheVerdict
from guard.server.cache_probes import WITHDRAW
from guard.server.outgoing import CREDENTIALS
from guard.server.upstream import Upstream, UpstreamPool
from guard.types import Kind, ReplicaId

#: Between two withdrawals on one replica. Unit: seconds.
PAUSE = 1.0
#: Longest that one may take. Unit: seconds.
SECONDS = 60.0
#: What a corrupted cache looks like. A loop is mostly the model's own.
CORRUPTED = frozenset({Kind.GARBLED, Kind.RARE_CHARS})
#: Field of the limit that each route has.
_LIMITS = {"/v1/chat/completions": "max_tokens", "/v1/completions": "max_tokens"}
_OTHER_LIMITS = ("max_completion_tokens", "min_tokens", "stream_options", "stop", "logprobs", "top_logprobs")

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def spoilt(attempt: AttemptRecord) -> bool:
    """Whether an attempt speaks against the prefix that other requests can still find."""
    if "cache_salt" in attempt.changes:
        return False
    scores = (attempt.confirm, attempt.audit)
    if any(score is not None and score.verdict is CacheVerdict.WRONG for score in scores):
        return True
    if attempt.confirm is not None and attempt.confirm.verdict is CacheVerdict.RIGHT:
        return False
    return attempt.kind in CORRUPTED and attempt.verdict in ("retry", "cut")


def withdrawal(request: ClientRequest) -> dict[str, Any] | None:
    """The client's request as one that only withdraws its prompt; None on a route that cannot carry it."""
    limit = _LIMITS.get(request.route)
    body = msgspec.json.decode(request.raw)
    if limit is None or not isinstance(body, dict):
        return None
    for name in _OTHER_LIMITS:
        body.pop(name, None)
    given = body.get("vllm_xargs")
    return body | {
        limit: 1,
        "n": 1,
        "stream": False,
        "vllm_xargs": {**(given if isinstance(given, dict) else {}), **WITHDRAW},
    }


class Withdrawals:
    """
    All withdrawals of one process.

    Args:
        pool: Replicas.
        clock: For the pauses.
    """

    def __init__(self, pool: UpstreamPool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._latest: dict[ReplicaId, float] = {}
        self._running: set[asyncio.Task[None]] = set()
        #: By result: done, failed, and why none was made.
        self.counts: Counter[str] = Counter()

    def offer(self, record: ExchangeRecord, request: ClientRequest, headers: Mapping[str, str]) -> None:
        """
        A finished exchange: what it was spoilt by is withdrawn.

        Args:
            record: Of it.
            request: The client's.
            headers: The client's own, for its credentials.
        """
        for name in dict.fromkeys(attempt.replica for attempt in record.attempts if spoilt(attempt)):
            upstream = next((each for each in self._pool.upstreams if each.name == name), None)
            if upstream is None or not upstream.withdraws:
                continue
            body = withdrawal(request)
            if body is None:
                self.counts["route"] += 1
            elif (now := self._clock.now()) - self._latest.get(upstream.name, -PAUSE) < PAUSE:
                self.counts["pace"] += 1
            else:
                # Without those that have had their pause, which may be of replicas long gone.
                self._latest = {one: at for one, at in self._latest.items() if now - at < PAUSE} | {upstream.name: now}
                self._start(upstream, record, request.route, body, headers)

    def _start(
        self, upstream: Upstream, record: ExchangeRecord, route: str, body: dict[str, Any], headers: Mapping[str, str]
    ) -> None:
        sent: CIMultiDict[str] = CIMultiDict({name: headers[name] for name in CREDENTIALS if name in headers})
        sent = self._pool.outgoing.sign(sent)
        sent["Content-Type"] = "application/json"
        task = asyncio.create_task(self._send(upstream, record.request_id, route, body, sent), name="withdraw")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _send(
        self, upstream: Upstream, request_id: str, route: str, body: dict[str, Any], headers: CIMultiDict[str]
    ) -> None:
        fault = ""
        upstream.in_flight += 1
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._pool.session.post(
                    upstream.url + route, json=body, headers=headers, allow_redirects=False
                ) as reply,
            ):
                await reply.read()
                fault = "" if reply.status == 200 else f"status {reply.status}"
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            fault = str(error) or type(error).__name__
        finally:
            upstream.in_flight -= 1
            self._latest[upstream.name] = self._clock.now()
        self.counts["failed" if fault else "done"] += 1
        said = {"request_id": request_id, "replica": upstream.name}
        if fault:
            _log.warning("spoilt prefix not withdrawn", reason=fault, **said)
        else:
            _log.info("spoilt prefix withdrawn", **said)

    async def close(self) -> None:
        """Cancel what runs."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
