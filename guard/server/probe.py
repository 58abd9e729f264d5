"""Which engine is behind a URL: asked once, from routes that only that engine has."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec

#: Route, a key that its JSON answer must have, engine. First match wins.
_MARKS = (
    ("/props", "default_generation_settings", "llama.cpp"),
    ("/get_model_info", "model_path", "sglang"),
    ("/version", "version", "vllm"),
)


async def probe_engine(session: aiohttp.ClientSession, url: str, timeout: float) -> str | None:  # noqa: ASYNC109
    """
    Ask a backend what it is.

    Args:
        session: To ask with.
        url: Base URL of the backend.
        timeout: For all questions together. Unit: seconds.

    Returns:
        An engine name; "text" for a backend that answers but is none of the known; None when it
        could not be reached, so that it is asked again later.
    """
    try:
        async with asyncio.timeout(timeout):
            for route, key, engine in _MARKS:
                if await _has(session, url + route, key):
                    return engine
    except (TimeoutError, aiohttp.ClientError, OSError):
        return None
    return "text"


async def _has(session: aiohttp.ClientSession, url: str, key: str) -> bool:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            await response.read()
            return False
        body = await response.content.read(4 * 1024 * 1024)
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(answer, dict) and key in answer
