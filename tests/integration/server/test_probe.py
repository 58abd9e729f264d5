"""Which engine is behind a URL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from guard.server.probe import EngineProbe, probe_engine


@contextlib.asynccontextmanager
async def serving(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{p:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answering(answers: dict[str, object]) -> contextlib.AbstractAsyncContextManager[str]:
    async def handle(request: web.Request) -> web.Response:
        if request.path not in answers:
            return web.Response(status=404, text="nothing here")
        answer = answers[request.path]
        return web.Response(text=answer) if isinstance(answer, str) else web.json_response(answer)

    return serving(handle)


@pytest.mark.parametrize(
    ("answers", "engine"),
    [
        ({"/props": {"default_generation_settings": {}, "total_slots": 1}}, "llama.cpp"),
        ({"/version": {"version": "0.32.0"}}, "vllm"),
        ({"/get_model_info": {"model_path": "x"}}, "sglang"),
        ({}, "text"),
        ({"/props": "<html>", "/version": "[]"}, "text"),
        ({"/props": "[" * 100_000}, "text"),
    ],
)
async def test_engines_are_told_apart(answers: dict[str, object], engine: str) -> None:
    async with answering(answers) as url, aiohttp.ClientSession() as session:
        assert await probe_engine(session, url, 2.0) == engine


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    """A chat template is longer than a segment of TCP."""

    async def pieces(request: web.Request) -> web.StreamResponse:
        said = json.dumps({"default_generation_settings": {}, "chat_template": "x" * 3000}).encode()
        response = web.StreamResponse(headers={"Content-Length": str(len(said))})
        await response.prepare(request)
        for start in range(0, len(said), 1000):
            await response.write(said[start : start + 1000])
            await asyncio.sleep(0.01)
        return response

    async with serving(pieces) as url, aiohttp.ClientSession() as session:
        assert await probe_engine(session, url, 2.0) == "llama.cpp"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_one_that_still_loads_its_model_is_asked_again(status: int) -> None:
    states = iter([status])

    async def loading(_: web.Request) -> web.Response:
        return web.json_response({"default_generation_settings": {}}, status=next(states, 200))

    async with serving(loading) as url, aiohttp.ClientSession() as session:
        assert await probe_engine(session, url, 2.0) is None
        assert await probe_engine(session, url, 2.0) == "llama.cpp"


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_where_it_wants_a_key_it_is_told_what_that_costs(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    async def locked(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(locked) as url, aiohttp.ClientSession() as session:
        assert await probe_engine(session, url, 2.0) == "text"
        assert (f"{url}/props" in capsys.readouterr().out) == (status != 404)


async def test_many_requests_wait_for_one_question_that_a_silent_backend_does_not_answer() -> None:
    asked: list[str] = []

    async def silent(request: web.Request) -> web.Response:
        asked.append(request.path)
        if len(asked) == 1:
            await asyncio.sleep(10)
        return web.json_response({"default_generation_settings": {}})

    async with serving(silent) as url, aiohttp.ClientSession() as session:
        probe = EngineProbe(url, 0.1)
        began = time.monotonic()
        assert await asyncio.gather(*(probe.ask(session) for _ in range(50))) == [None] * 50
        assert time.monotonic() - began < 2
        assert len(asked) == 1
        probe._next = 0.0  # AGAIN has passed
        assert await asyncio.gather(*(probe.ask(session) for _ in range(50))) == ["llama.cpp"] * 50
        assert len(asked) == 2


async def test_a_backend_that_is_down_is_asked_again_later() -> None:
    async with aiohttp.ClientSession() as session:
        assert await probe_engine(session, "http://127.0.0.1:9", 1.0) is None
