"""Replicas that play recorded streams of a real model, some of them corrupted, and clients that ask for them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from guard.config import (
    AccessSettings,
    Config,
    DashboardSettings,
    Listen,
    RetryBudgetSettings,
    TimeoutSettings,
    UpstreamSettings,
)
from guard.fleet.settings import PoolSettings
from guard.lab.backtest import baselines_for
from guard.lab.cases import Case, CaseChunk, read_cases
from guard.lab.tape_player import chat_events, continued_text
from guard.observe.recorder import RecorderSettings
from guard.server.policies import PolicySet
from guard.server.run import Running, running_guard
from tests.integration.server.conftest import QUIET

TRACES = Path(__file__).parents[1] / "data" / "traces"
#: Recordings of corrupted caches that the default policy finds, and a loop.
BAD = ("noise-12-at0-story-t0-k2", "noise-8-at15-bees-t1-k2", "noise-24-at15-speech-t0.7-k3", "healthy-bees-t0-k3")
#: Long healthy ones.
GOOD = (
    "healthy-explain-t0.7-k2", "healthy-equation-t1-k3", "healthy-weather-t1-k3", "healthy-repot-t0.7-k3",
    "healthy-recipe-t0.7-k2", "healthy-speech-t1-k3", "healthy-museum-t0.7-k2", "healthy-repot-t1-k2",
)  # fmt: skip


def cases(*names: str) -> list[Case]:
    """Recordings by name, in that order."""
    known = {case.id: case for case in read_cases(TRACES / "tuning.jsonl.gz")}
    return [known[name] for name in names]


class Replica:
    """
    Plays recordings in vLLM's form, with the plugin's steps.

    Args:
        good: What it plays.
        bad: What it plays instead, with the chance `share`, unless it is to continue a text.
        share: In [0, 1]; may be changed at any time.
        pace: Tokens per second and stream; 0 for as fast as can be.
        seed: Of the choice.
    """

    def __init__(
        self, good: Sequence[Case], bad: Sequence[Case] = (), share: float = 0.0, pace: float = 0.0, seed: int = 1
    ) -> None:
        self.url = ""
        #: The Cookie header of every request, on whatever path.
        self.cookies: list[str] = []
        self.share = share
        self.pace = pace
        self._good, self._bad = good, bad
        self._random = random.Random(seed)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Replica]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._serve)
        app.router.add_get("/v1/models", self._models)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        self.cookies.append(request.headers.get("Cookie", ""))
        return web.json_response({"object": "list", "data": []})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.cookies.append(request.headers.get("Cookie", ""))
        body: object = msgspec.json.decode(await request.read())
        continued = continued_text(body)
        is_bad = bool(self._bad) and not continued and self._random.random() < self.share
        case = self._random.choice(self._bad if is_bad else self._good)
        chunks: Sequence[CaseChunk] = case.chunks
        if continued:
            chunks = chunks[len(chunks) // 3 :]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for data, tokens in chat_events(case, chunks):
                await asyncio.sleep(tokens / self.pace if self.pace else 0)
                await response.write(data)
        return response


async def ask(client: aiohttp.ClientSession, url: str, name: str, model: str, *, stream: bool = True) -> str:
    """One request, read to its end; the answer as it came."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Tell me about it at length."}]}
    headers = {"X-Request-Id": name}
    async with client.post(url + "/v1/chat/completions", json=body, headers=headers) as reply:
        return (await reply.read()).decode()


async def drive(url: str, count: int, *, at_once: int = 20, prefix: str = "chat", stream: bool = True) -> None:
    """So many requests, so many of them at once."""
    gate = asyncio.Semaphore(at_once)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def one(number: int) -> None:
            async with gate:
                model = ("smollm2-135m", "smollm2-135m-chat")[number % 3 == 0]
                await ask(client, url, f"{prefix}-{number:04d}", model, stream=stream)

        await asyncio.gather(*(one(number) for number in range(count)))


@contextlib.asynccontextmanager
async def fleet(
    folder: Path,
    *,
    share: float = 0.35,
    pace: float = 0.0,
    policy: str = "default",
    pool: PoolSettings | None = None,
    access: AccessSettings | None = None,
) -> AsyncIterator[tuple[Running, list[Replica]]]:
    """A guard before three replicas, of which the second has a corrupted cache."""
    good, bad = cases(*GOOD), cases(*BAD)
    replicas = [Replica(good, pace=pace, seed=1), Replica(good, bad, share, pace, 2), Replica(good, pace=pace, seed=3)]
    async with contextlib.AsyncExitStack() as stack:
        for replica in replicas:
            await stack.enter_async_context(replica.serving())
        config = Config(
            upstreams=[
                UpstreamSettings(url=replica.url, name=f"gpu-{number}", engine="vllm", num_speculative_tokens=3)
                for number, replica in enumerate(replicas, 1)
            ],
            listen=Listen(port=0),
            admin=Listen(port=0),
            timeouts=TimeoutSettings(drain=0.5),
            pool=pool or QUIET,
            access=access or AccessSettings(),
            retry_budget=RetryBudgetSettings(floor=100),
            recording=RecorderSettings(folder=str(folder), healthy=0.05, acted=1.0, text="scrambled"),
            dashboard=DashboardSettings(cases=[str(TRACES / "tuning.jsonl.gz")]),
        )
        known = baselines_for("smollm2-135m-drop17", [3])
        baselines = {replica.url: known[3] for replica in replicas}
        policies = PolicySet([policy], "strict")
        yield await stack.enter_async_context(running_guard(config, policies, baselines)), replicas
