"""
A fleet of two real guard processes under load while their Redis is killed, stopped, filled, made read-only, emptied.

    python -m tests.bench.redis_chaos            # each trouble for some seconds; prints a table, exits 1 on a breach
    python -m tests.bench.redis_chaos --json

The backends are scripted: half of their first answers go bad in the middle, a few go bad at every attempt.
What is asked for: no request hangs, no text is wrong, the budget is exceeded by at most one retry a guard, and
from a bad verify step to the arrival of the next attempt no more than 60 ms are added (p99, against quiet times).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.integration.state.servers import Server
from tests.unit.core.transcript import BAD, DONE, chunk

GUARDS = 2
REPLICAS = 2
WORKERS = 20
SHARE, FLOOR = 0.2, 3
#: Longest that a request may take. Unit: seconds.
HUNG = 15.0
#: Most that trouble with Redis may add at p99. Unit: seconds.
ADDED = 0.060
#: Words of an answer, one a chunk, and between two of them. Unit: seconds.
WORDS, PACE = 20, 0.015
#: How often a trouble comes again that no retry met.
TIMES = 10
#: Shares of requests whose first attempt, and whose every attempt, goes bad.
ONCE, ALWAYS = 0.5, 0.05

#: A guard that aborts an attempt breaks its connection; aiohttp would write a page about each.
QUIET = logging.getLogger("backends")
QUIET.disabled = True

POLICY = """
version: 1
name: chaos
retry: {max_attempts: 3, change: [cache, seed]}
when_exhausted: cut
rules:
  - name: rejected
    kind: garbled
    action: retry
    when: {signal: acceptance_rate, window: 1 steps, from: 1.0, to: 0.0}
"""


def answer(case: str) -> str:
    """What a healthy replica says."""
    rng = random.Random(case)
    return "".join(f"{case}-{number}-{rng.randrange(1000)} " for number in range(WORDS))


@dataclass
class Phase:
    """What was seen while one trouble lasted. Unit of times: seconds."""

    name: str
    outcomes: Counter[str] = field(default_factory=Counter)
    durations: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    excess: int = -(10**6)
    retries: int = 0

    def line(self) -> dict[str, object]:
        return {
            "phase": self.name,
            "requests": sum(self.outcomes.values()),
            **{name: self.outcomes[name] for name in ("whole", "refused", "exhausted", "hung", "wrong", "failed")},
            "retries": self.retries,
            "budget_excess": max(self.excess, 0),
            "retry_gap_p50_ms": ms(quantile(self.gaps, 0.5)),
            "retry_gap_p99_ms": ms(quantile(self.gaps, 0.99)),
            "machine_lag_p99_ms": ms(quantile(self.lags, 0.99)),
            "request_p99_ms": ms(quantile(self.durations, 0.99)),
        }


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


class World:
    """The backends, the clients, and what is counted."""

    def __init__(self) -> None:
        self.phase = Phase("start")
        self.active = 0
        #: Attempts beyond the first that are now in flight, by request.
        self.retrying: Counter[str] = Counter()
        self.turned_bad: dict[str, float] = {}

    async def lag(self) -> None:
        """How late this process is woken: what a busy machine adds to every wait."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            self.phase.lags.append(time.perf_counter() - began - 0.01)

    # -- backends -----------------------------------------------------------------------------------

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """One attempt, as vLLM with the plugin streams it; what the assistant has said already is continued."""
        body = await request.json()
        case = body["messages"][0]["content"]
        retry = "cache_salt" in body
        request_id = request.headers.get("x-request-id", "")
        if retry:
            self._admitted(request_id)
        try:
            return await self._stream(request, body, case, retry=retry)
        finally:
            if retry:
                self.retrying[request_id] -= 1
                self.retrying += Counter()  # without those at 0

    def _admitted(self, request_id: str) -> None:
        self.retrying[request_id] += 1
        self.phase.retries += 1
        # An aborted attempt may end here after the next one of its request began: requests are counted.
        self.phase.excess = max(self.phase.excess, len(self.retrying) - max(FLOOR, int(SHARE * self.active)))
        since = self.turned_bad.pop(request_id, None)
        if since is not None:
            self.phase.gaps.append(time.perf_counter() - since)

    async def _stream(self, request: web.Request, body: dict, case: str, *, retry: bool) -> web.StreamResponse:  # type: ignore[type-arg]
        said = body["messages"][-1]["content"] if body["messages"][-1]["role"] == "assistant" else ""
        words = answer(case)[len(said) :].split(" ")[:-1]
        goes_bad = case.startswith("always") or (case.startswith("once") and not retry)
        turn = random.Random(case).randrange(2, max(len(words), 3)) if goes_bad else len(words) + 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, word in enumerate(words):
            await asyncio.sleep(PACE)
            if request.transport is None or request.transport.is_closing():
                break
            if number >= turn or (goes_bad and number == len(words) - 1):
                self.turned_bad.setdefault(request.headers.get("x-request-id", ""), time.perf_counter())
                await response.write(chunk(BAD))
                continue
            await response.write(chunk(word + " "))
        await response.write(chunk("", finish="stop") + DONE)
        return response

    @contextlib.asynccontextmanager
    async def backends(self) -> AsyncIterator[list[str]]:
        urls = []
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(REPLICAS):
                app = web.Application()
                app.router.add_post("/v1/chat/completions", self.generate)
                runner = web.AppRunner(app, handler_cancellation=True, access_log=None, logger=QUIET)
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
            yield urls

    # -- clients ------------------------------------------------------------------------------------

    async def client(self, session: aiohttp.ClientSession, guards: list[str], number: int, stop: asyncio.Event) -> None:
        rng = random.Random(number)
        count = 0
        while not stop.is_set():
            count += 1
            draw = rng.random()
            kind = "always" if draw < ALWAYS else "once" if draw < ALWAYS + ONCE else "good"
            case = f"{kind}.{number}.{count}"
            phase, began = self.phase, time.perf_counter()
            self.active += 1
            try:
                async with asyncio.timeout(HUNG):
                    outcome = await self._ask(session, guards[count % len(guards)], case)
            except TimeoutError:
                outcome = "hung"
            except aiohttp.ClientError as error:
                print(f"{case}: {error!r}", file=sys.stderr)
                outcome = "failed"
            finally:
                self.active -= 1
                self.turned_bad.pop(case, None)
            phase.durations.append(time.perf_counter() - began)
            phase.outcomes[outcome] += 1

    async def _ask(self, session: aiohttp.ClientSession, guard: str, case: str) -> str:
        body = {"model": "m", "messages": [{"role": "user", "content": case}], "stream": True}
        async with session.post(guard + "/v1/chat/completions", json=body, headers={"x-request-id": case}) as response:
            raw = (await response.read()).decode()
        if response.status != 200:
            error = json.loads(raw)["error"]
            return self._ended(case, "", error, done=False)
        lines = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
        text = "".join(choice["delta"].get("content") or "" for line in lines for choice in line.get("choices", []))
        error = next((line["error"] for line in lines if "error" in line), None)
        return self._ended(case, text, error, done="data: [DONE]" in raw)

    def _ended(self, case: str, text: str, error: dict[str, object] | None, *, done: bool) -> str:
        whole = answer(case)
        if error is None:
            return "whole" if done and text == whole else "wrong"
        if done or not whole.startswith(text):
            return "wrong"
        if case.startswith("good"):
            return "failed"
        return "refused" if "retry budget" in str(error["message"]) else "exhausted"


@contextlib.asynccontextmanager
async def guard_process(folder: Path, upstreams: list[str], redis_url: str) -> AsyncIterator[tuple[str, str]]:
    """A `guard serve` of its own; yields the addresses of its client port and its admin port."""
    folder.mkdir()
    (folder / "policy.yaml").write_text(POLICY)
    config = {
        "upstreams": [{"url": url, "engine": "vllm"} for url in upstreams],
        "policy": str(folder / "policy.yaml"),
        "listen": {"port": 0},
        "admin": {"port": 0},
        "timeouts": {"drain": 1},
        "log": {"level": "warning"},
        "retry_budget": {"share": f"{SHARE:.0%}", "floor": FLOOR},
        "store": {"url": redis_url},
    }
    (folder / "guard.yaml").write_text(json.dumps(config))
    command = [sys.executable, "-m", "guard", "serve", "--config", str(folder / "guard.yaml")]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=dict(os.environ))
    assert process.stderr is not None
    reading = None
    try:
        addresses = None
        while addresses is None:
            line = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
            assert line, "the guard did not start"
            addresses = re.search(r"clients connect to (\S+), operators to (\S+)", line)
        log = (folder / "log").open("wb")
        reading = asyncio.create_task(_copy(process.stderr, log))
        yield addresses[1], addresses[2]
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 10)
        if reading is not None:
            await reading


async def _copy(source: asyncio.StreamReader, target: object) -> None:
    while data := await source.read(4096):
        target.write(data)  # type: ignore[attr-defined]
    target.close()  # type: ignore[attr-defined]


Trouble = Callable[[Server, float], Awaitable[None]]


async def quiet(_: Server, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def killed(server: Server, seconds: float) -> None:
    server.kill()
    await asyncio.sleep(seconds)
    server.start(wait=False)


async def paused(server: Server, seconds: float) -> None:
    server.pause()
    await asyncio.sleep(seconds)
    server.resume()


async def filled(server: Server, seconds: float) -> None:
    await asyncio.to_thread(server.fill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.unfill)


async def read_only(server: Server, seconds: float) -> None:
    await asyncio.to_thread(server.read_only)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.writable)


async def restarted(server: Server, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        server.kill()
        server.start(wait=False)
        await asyncio.sleep(seconds / 3)


async def emptied(server: Server, seconds: float) -> None:
    def flush() -> None:
        with server.client() as client:
            client.flushall()

    await asyncio.to_thread(flush)
    await asyncio.sleep(seconds)


TROUBLES: dict[str, Trouble] = {
    "killed": killed,
    "paused": paused,
    "full": filled,
    "read-only": read_only,
    "restarted": restarted,
    "emptied": emptied,
}


async def metrics_of(session: aiohttp.ClientSession, admin: str) -> dict[str, float]:
    async with session.get(admin + "/metrics") as response:
        text = await response.text()
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def run(seconds: float, recovery: float) -> dict[str, object]:
    """
    The whole run.

    Args:
        seconds: That each trouble lasts, and the quiet time before; again where a busy machine let no retry meet it.
        recovery: Between two troubles. Unit: seconds.

    Returns:
        A line for each phase, the state after the last, and every breach of what is asked for; those of time stand
        apart, because another program on the machine can cause them too.
    """
    world, phases = World(), []
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = Server(folder)
        stack.callback(server.kill)
        server.start()
        upstreams = await stack.enter_async_context(world.backends())
        guards = [
            await stack.enter_async_context(guard_process(folder / f"guard-{n}", upstreams, server.url))
            for n in range(GUARDS)
        ]
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None))
        )
        stop = asyncio.Event()
        clients = [world.client(session, [url for url, _ in guards], n, stop) for n in range(WORKERS)]
        load = asyncio.gather(*clients)
        lag = asyncio.create_task(world.lag())
        stack.callback(lag.cancel)
        await asyncio.sleep(3)  # the guards meet each other
        for name, trouble in {"quiet": quiet, **TROUBLES}.items():
            world.phase = Phase(name)
            phases.append(world.phase)
            for _ in range(TIMES):
                await trouble(server, seconds)
                if world.phase.retries:
                    break
            world.phase = Phase(f"after {name}")
            phases.append(world.phase)
            await asyncio.sleep(recovery)
        stop.set()
        await load
        await asyncio.sleep(2.5)
        after = [await metrics_of(session, admin) for _, admin in guards]
    return judged(phases, after)


def judged(phases: list[Phase], after: list[dict[str, float]]) -> dict[str, object]:
    reference, breaches, late = phases[0], [], []
    for phase in phases:
        bad = {name: phase.outcomes[name] for name in ("hung", "wrong", "failed") if phase.outcomes[name]}
        if bad:
            breaches.append(f"{phase.name}: {bad}")
        if phase.excess > GUARDS:
            breaches.append(f"{phase.name}: {phase.excess} retries beyond the budget")
        added = quantile(phase.gaps, 0.99) - quantile(reference.gaps, 0.99)
        if added > ADDED:
            late.append(f"{phase.name}: {ms(added)} ms added at p99")
    for number, metrics in enumerate(after):
        state = {name: metrics[f"guard_{name}"] for name in ("store_degraded", "fleet_guards", "fleet_retries")}
        if state != {"store_degraded": 0.0, "fleet_guards": GUARDS, "fleet_retries": 0.0}:
            breaches.append(f"guard {number} after all: {state}")
    asked = sum(
        metrics.get(f'guard_store_calls_total{{operation="admit",result="{result}"}}', 0.0)
        for metrics in after
        for result in ("ok", "late", "failed")
    )
    waited = sum(metrics["guard_store_wait_seconds_total"] for metrics in after) / max(asked, 1)
    calls: Counter[str] = Counter()
    for metrics in after:
        for name, value in metrics.items():
            if name.startswith(("guard_store_calls_total", "guard_retry_admissions_total")):
                calls[name] += int(value)
    return {
        "phases": [phase.line() for phase in phases],
        "calls": dict(sorted(calls.items())),
        "mean_wait_ms": ms(waited),
        "breaches": breaches,
        "late": late,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="that each trouble lasts (default 6)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = asyncio.run(run(args.seconds, recovery=3.0))
    if args.json:
        print(json.dumps(result))
    else:
        phases = result["phases"]
        assert isinstance(phases, list)
        names = list(phases[0])
        print(" | ".join(names))
        for phase in phases:
            print(" | ".join(str(phase[name]) for name in names))
        for name, count in result["calls"].items():  # type: ignore[attr-defined]
            print(f"{name} {count}")
        print("mean wait of an admission that was tried:", result["mean_wait_ms"], "ms")
        print("breaches:", result["breaches"] or "none", "- too late:", result["late"] or "none")
    return 1 if result["breaches"] or result["late"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
