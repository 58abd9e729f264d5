"""What each replica was proven to be able to do: tried once, and again when its version changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import aiohttp
import structlog

from guard.errors import GuardError
from guard.proto.sse import SseParser
from guard.server.cache_probes import check_cache_bypass, check_withdraw
from guard.server.probes import (
    Asker,
    Check,
    State,
    check_rescore,
    check_resume,
    engine_and_version,
    identify,
)
from guard.types import Capabilities, ReplicaId

#: How often each replica's version is asked. Unit: seconds.
INTERVAL = 60.0
#: Longest that one answer to a probe may take. Unit: seconds.
ANSWER_SECONDS = 60.0

#: llama-server closes the connection after some streams, also one that it had promised to keep.
#: And the pool's session sets no type by itself.
_FRESH = {"Connection": "close", "Content-Type": "application/json"}
_CAPABILITIES = ("resume_chat", "resume_completions", "cache_bypass", "rescore", "withdraw")
_KNOWN = {State.YES: True, State.NO: False, State.UNKNOWN: None}

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class AiohttpAsker:
    """
    Asks one backend with the guard's own session.

    Args:
        session: Open.
        url: Base URL without a slash at its end.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(self, path: str) -> tuple[int, bytes]:
        """See Asker."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """See Asker."""
        return await self._ask("POST", path, body)

    async def stream(self, path: str, body: Mapping[str, Any], events: int) -> list[bytes]:
        """See Asker."""
        seen: list[bytes] = []
        parser = SseParser(max_event_bytes=1 << 20)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reply = await self._session.post(
                    self._url + path, json=dict(body), headers=_FRESH, allow_redirects=False
                )
                try:
                    async for data in reply.content.iter_any():
                        seen += [event.data for event in parser.feed(data) if event.data is not None]
                        if len(seen) >= events:
                            break
                finally:
                    reply.close()
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise OSError(str(error) or type(error).__name__) from error
        return seen[:events]

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        sent = None if body is None else dict(body)
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                self._session.request(
                    method, self._url + path, json=sent, headers=_FRESH, allow_redirects=False
                ) as reply,
            ):
                return reply.status, await reply.read()
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise OSError(str(error) or type(error).__name__) from error


async def prove(asker: Asker) -> Capabilities:
    """
    Try all that a retry or a re-scoring may want of a backend.

    Raises:
        OSError: It cannot be reached.
    """
    backend = await identify(asker)
    checks = [
        await _tried(check_resume(asker, backend, chat=True)),
        await _tried(check_resume(asker, backend, chat=False)),
        await _tried(check_cache_bypass(asker, backend)),
        await _tried(check_rescore(asker, backend)),
        await _tried(check_withdraw(asker, backend)),
    ]
    return Capabilities(backend.engine, backend.version, *(_KNOWN[state] for state in checks))


async def _tried(check: Awaitable[Check]) -> State:
    try:
        found = await check
    except GuardError:
        return State.UNKNOWN
    return found.state


class CapabilityCache:
    """
    What was proven, by replica. Reading it costs a look-up; proving is done beside the requests.

    Args:
        interval: Between two looks at a version. Unit: seconds.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._proven: dict[ReplicaId, Capabilities] = {}

    def of(self, replica: ReplicaId) -> Capabilities | None:
        """What the replica was proven to be able to do; None while that is not known."""
        return self._proven.get(replica)

    async def refresh(self, replica: ReplicaId, asker: Asker) -> None:
        """
        Ask a replica for its version, and try everything if that is new.

        One that cannot be reached keeps what it was proven: it may come back the same.
        """
        try:
            known = self._proven.get(replica)
            engine, version = await engine_and_version(asker, known.engine if known is not None else "")
            if engine == "text" or (known is not None and (known.engine, known.version) == (engine, version)):
                return
            found = await prove(asker)
        except (OSError, GuardError):
            return
        self._proven[replica] = found
        _log.info("capabilities", replica=replica, engine=engine, version=version, **_told(found))

    async def run(self, replicas: Callable[[], Iterable[tuple[ReplicaId, Asker]]]) -> None:
        """
        Keep all of them known, one replica at a time. Runs until cancelled.

        Args:
            replicas: Gives those there are now.
        """
        while True:
            there = list(replicas())
            for replica, asker in there:
                await self.refresh(replica, asker)
            for gone in self._proven.keys() - {replica for replica, _ in there}:
                del self._proven[gone]
            await asyncio.sleep(self._interval)

    def report(self) -> dict[ReplicaId, Capabilities]:
        """For the admin port."""
        return dict(self._proven)


def _told(found: Capabilities) -> dict[str, bool | None]:
    return {name: getattr(found, name) for name in _CAPABILITIES}
