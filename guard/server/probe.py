"""Which engine is behind a URL: asked until it is known, from routes that only that engine has."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
import structlog

#: Route, a key that its JSON answer must have, engine. First match wins.
_MARKS = (
    ("/props", "default_generation_settings", "llama.cpp"),
    ("/get_model_info", "model_path", "sglang"),
    ("/version", "version", "vllm"),
)


#: Largest answer that is read. Unit: bytes.
_MOST = 4 * 1024 * 1024
#: After a backend could not say what it is, until it is asked again. Unit: seconds.
AGAIN = 1.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class EngineProbe:
    """
    Asks one backend what it is. However many requests come meanwhile, one question is under way, and after one without
    an answer they go on without it: they would wait for one after the other.

    Args:
        url: Base URL of the backend.
        timeout: For all questions together. Unit: seconds.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._asking = asyncio.Lock()
        self._engine: str | None = None
        self._next = 0.0  # time of the loop before which it is not asked again

    async def ask(self, session: aiohttp.ClientSession) -> str | None:
        """The engine, as of `probe_engine`."""
        loop = asyncio.get_running_loop()
        async with self._asking:
            if self._engine is None and loop.time() >= self._next:
                self._engine = await probe_engine(session, self._url, self._timeout)
                self._next = loop.time() + AGAIN
        return self._engine


async def probe_engine(session: aiohttp.ClientSession, url: str, timeout: float) -> str | None:  # noqa: ASYNC109
    """
    Ask a backend what it is.

    Args:
        session: To ask with.
        url: Base URL of the backend.
        timeout: For all questions together. Unit: seconds.

    Returns:
        An engine name; "text" for a backend that answers but is none of the known; None when it
        could not be reached, or cannot answer yet (it loads its model), so that it is asked again later.
    """
    locked: list[str] = []
    try:
        async with asyncio.timeout(timeout):
            for route, key, engine in _MARKS:
                if await _has(session, url + route, key, locked):
                    return engine
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return None
    if locked:
        _log.warning(
            "the engine could not be found out, so text alone is judged: the backend wants a key; set "
            "access.upstream_key_file, or engine of the upstream",
            asked=locked,
        )
    return "text"


async def _has(session: aiohttp.ClientSession, url: str, key: str, locked: list[str]) -> bool:
    async with session.get(url, allow_redirects=False) as response:
        if response.status in (401, 403):
            locked.append(url)
        if response.status == 429 or response.status >= 500:
            raise OSError(f"{url} was answered {response.status}")
        if response.status != 200:
            await response.read()
            return False
        body = bytearray()
        # Its `read` with a size ends with the first piece that came.
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > _MOST:
                return False
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(answer, dict) and key in answer
