"""
A soak: a real guard, three real replicas, a real Redis, hundreds of streams, and faults by a schedule from a seed.

    python -m tests.bench.soak [--minutes 30] [--streams 500] [--seed 1] [--json]
    python -m tests.bench.soak --plan --seed 1          # only prints the schedule

The same seed and time give the same schedule and the same clients. Exit code 1 when a promise was broken; they stand
in soak_verdict.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from guard.data import data_dir
from guard.lab.ports import free_port
from guard.retry.budget import Budget
from tests.bench.proxy_report import machine
from tests.bench.soak_guard import shared
from tests.bench.soak_load import Clients
from tests.bench.soak_plan import REPLICAS, Replica, Stage, schedule
from tests.bench.soak_script import stories
from tests.bench.soak_verdict import (
    Ended,
    Sample,
    attempts,
    beyond_budget,
    closes,
    explained,
    flatness,
    lags_of,
    retried,
    total,
    violations,
    whole_lines,
)
from tests.integration.state.servers import Server

#: How long the guard keeps idle connections, and a little more. Unit: seconds.
CALM = 6.0
#: Below this a soak is a short one: faster streams, shorter silences. Unit: seconds.
SHORT = 180.0
#: The longest silence of a replica that the guard waits through, in a long and in a short one. Unit: seconds.
IDLE = (4.0, 1.5)
#: Errors in the guard's log that faults of the schedule must cause.
FORESEEN = {"policy reload failed; the last good policies stay"}


def configuration(folder: Path, urls: list[str], redis: str, streams: int, *, short: bool) -> Path:
    """The guard's configuration file."""
    policy = folder / "default.yaml"
    policy.write_text((data_dir("policies") / "default.yaml").read_text())
    config = {
        "upstreams": [
            {"url": url, "name": f"replica-{n}", "engine": "vllm", "num_speculative_tokens": 3}
            for n, url in enumerate(urls)
        ],
        "policy": str(policy),
        "capabilities": "assume",
        "listen": {"port": 0},
        "admin": {"port": 0},
        "limits": {"max_in_flight": streams + streams // 4},
        "timeouts": {"idle": IDLE[short], "connect": 2.0, "drain": 10},
        "pool": {"health": {"interval": 1.0, "timeout": 1.0}},
        "log": {"level": "warning", "format": "json"},
        "recording": {"folder": str(folder / "records"), "healthy": 1.0 if short else 0.2},
        "store": {"url": redis},
    }
    path = folder / "guard.yaml"
    path.write_text(json.dumps(config))
    return path


class Watched:
    """The guard's process, and what it says of itself."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, admin: str) -> None:
        self.process, self.url, self.admin = process, url, admin
        self.log: Counter[str] = Counter()
        #: Lines that no fault excuses.
        self.problems: list[str] = []
        self._session = aiohttp.ClientSession()

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    async def listen(self) -> None:
        """Read its log, so that it never waits for that."""
        assert self.process.stderr is not None
        while line := (await self.process.stderr.readline()).decode():
            found = re.search(r'"event": ?"([^"]+)"', line)
            self.log[found[1] if found else "other"] += 1
            if found is None or ('"level":"error"' in line.replace(" ", "") and found[1] not in FORESEEN):
                self.problems.append(line.strip()[:300])

    async def metrics(self) -> dict[str, float]:
        async with self._session.get(self.admin + "/metrics") as response:
            text = await response.text()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    async def sample(self, at: float) -> Sample:
        """What it holds now."""
        metrics = await self.metrics()
        folder = Path(f"/proc/{self.process.pid}")
        links = []
        for path in folder.glob("fd/*"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(path))
        pages = int((folder / "statm").read_text().split()[1])
        return Sample(
            at=round(at, 1),
            rss_mib=round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 2),
            files=len(links),
            sockets=sum(link.startswith("socket:") for link in links),
            tasks=int(metrics["guard_tasks"]),
            in_flight=int(metrics["guard_exchanges_in_flight"]),
            retries=int(metrics["guard_retries_in_flight"]),
        )

    async def close(self) -> None:
        await self._session.close()


async def started(config: Path, clock: Path) -> Watched:
    """A guard of its own process, once it serves."""
    command = [sys.executable, "-m", "tests.bench.soak_guard", str(clock), "serve", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, limit=2**20)
    assert process.stderr is not None
    said = ""
    while not (found := re.search(r"clients connect to (\S+), operators to (\S+)", said)):
        line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
        if not line:
            raise SystemExit(f"the guard did not start: {said}")
        said += line
    return Watched(process, found[1], found[2])


async def soak(seconds: float, streams: int, seed: int) -> dict[str, Any]:
    """
    One soak.

    Args:
        seconds: With faults; starting, the last streams and the calm after them come to that.
        streams: At once.
        seed: Of faults and clients.

    Returns:
        Figures, and under "violations" every promise that was broken.
    """
    stories()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="guard-soak-")))
        redis = Server(folder)
        stack.callback(redis.kill)
        await asyncio.to_thread(redis.start)
        replicas = [Replica(n, free_port(), folder / f"events-{n}", seed * 10 + n) for n in range(REPLICAS)]
        for replica in replicas:
            replica.events.touch()
            replica.start()
            stack.callback(replica.kill)
        urls = [f"http://127.0.0.1:{replica.port}" for replica in replicas]
        short = seconds < SHORT
        config = configuration(folder, urls, redis.url, streams, short=short)
        clock = folder / "clock"
        shared(clock)
        guard = await started(config, clock)
        stack.push_async_callback(guard.close)
        stack.push_async_callback(_killed, guard.process)
        listening = asyncio.create_task(guard.listen())
        clients = Clients(guard.port, streams, seed, (40, 80) if short else (150, 250))
        stage = Stage(replicas, redis, guard.process.pid, folder / "default.yaml", clock, clients)
        await _listens(urls)
        end = await _run(seconds, stage, guard, seed)
        guard.process.terminate()
        code = await asyncio.wait_for(guard.process.wait(), 30)
        await listening
        seen, late, wrong = attempts(replicas, IDLE[short])
        end = end._replace(seen=seen, late=late, continued_wrongly=wrong, problems=guard.problems, exit_code=code)
        end = end._replace(recorded=whole_lines(folder / "records"), replica_lags=lags_of(replicas))
    return report(end, guard, seed)


async def _killed(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


async def _listens(urls: list[str]) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        for url in urls:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(url + "/health"):
                        break
                await asyncio.sleep(0.1)


async def _lag(lags: list[tuple[float, float]]) -> None:
    """How late this process is woken: what a busy machine does to all others too."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.05)
        now = time.monotonic()
        lags.append((now, now - began - 0.05))


def _quantile(lags: list[tuple[float, float]], share: float) -> float:
    ordered = sorted(lag for _, lag in lags)
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 3)


async def _run(seconds: float, stage: Stage, guard: Watched, seed: int) -> Ended:
    clients, samples = stage.clients, []
    await asyncio.sleep(2.5)  # the store has to have heard of the guard
    before = await guard.sample(0.0)
    begun = time.monotonic()
    load = asyncio.create_task(clients.run())
    lags: list[tuple[float, float]] = []
    lag = asyncio.create_task(_lag(lags))
    faults = asyncio.create_task(stage.perform(schedule(seed, seconds), begun))
    while (now := time.monotonic() - begun) < seconds:
        samples.append(await guard.sample(now))
        if faults.done():
            await faults
        await asyncio.sleep(min(1.0 if seconds < SHORT else 5.0, seconds / 20))
    clients.stopping = True
    await asyncio.gather(load, faults)
    lag.cancel()
    await asyncio.sleep(CALM)
    after = await guard.sample(time.monotonic() - begun)
    metrics = await guard.metrics()
    done = Counter(one.kind for one in stage.done)
    told = (seconds, clients, done, [], 0, 0, before, samples, after, metrics, (0, 0), lags, [], [], None)
    return Ended(*told, begun=begun, done=stage.done)


def report(end: Ended, guard: Watched, seed: int) -> dict[str, Any]:
    """Everything that is told of a soak."""
    budget = Budget()
    excess = beyond_budget(end.seen, end.clients.changes, budget, sorted(end.lags + end.replica_lags))
    flat = flatness(end.samples, end.seconds)
    kept = ("guard_exchanges_total", "guard_attempts_total", "guard_aborts", "guard_upstream_faults", "guard_verdicts")
    kept += ("guard_retries_refused", "guard_recordings", "guard_policy_reloads", "guard_requests_refused")
    kept += ("guard_replica_ejections", "guard_retry_admissions", "guard_bad_tokens_shown", "guard_tokens")
    return {
        "machine": machine(),
        "seconds": end.seconds,
        "streams": end.clients.streams,
        "seed": seed,
        "faults": dict(sorted(end.faults.items())),
        "requests": end.clients.requests,
        "outcomes": dict(end.clients.outcomes.most_common()),
        "words": {name: dict(words.most_common(5)) for name, words in end.clients.words.items()},
        "slowest_s": round(end.clients.slowest, 1),
        "attempts": dict(Counter(one.how for one in end.seen)),
        "given_up": closes(end),
        "beyond_budget": max(excess.by, 0),
        "budget_at_worst": explained(excess, end.begun, end.done, end.samples),
        "retries": {
            "seen": retried(end.seen),
            "granted": total(end.metrics, "guard_retry_admissions_total", 'result="granted"'),
        },
        "woken_late_s": {"often": _quantile(end.lags, 0.99), "at_most": _quantile(end.lags, 1.0)},
        "replicas_late_s": {
            "times": len(end.replica_lags),
            "at_most": max((lag for _, lag in end.replica_lags), default=0),
        },
        "most_retries_in_flight": max(one.retries for one in end.samples),
        "flat": flat,
        "samples": end.samples,
        "before": end.before._asdict(),
        "after": end.after._asdict(),
        "metrics": {name: value for name, value in sorted(end.metrics.items()) if name.startswith(kept)},
        "log": dict(guard.log),
        "recorded_lines": end.recorded[0],
        "violations": violations(end, excess, flat),
    }


def shown(result: dict[str, Any]) -> str:
    """The report for people."""
    lines = ["{seconds:.0f} s, {streams} streams at once, seed {seed}; {machine}".format_map(result)]
    for name in (
        "faults",
        "requests",
        "outcomes",
        "words",
        "attempts",
        "given_up",
        "slowest_s",
        "beyond_budget",
        "budget_at_worst",
        "retries",
        "woken_late_s",
    ):
        lines.append(f"{name.replace('_', ' ')}: {result[name]}")
    lines.append(f"most retries in flight: {result['most_retries_in_flight']}")
    for name, figures in result["flat"].items():
        before, after = (result[when][name.removesuffix("_each")] for when in ("before", "after"))
        lines.append(f"{name}: {figures}, {before} before, {after} after")
    lines += [f"  {name} {value:g}" for name, value in result["metrics"].items() if not name.endswith("_created")]
    lines.append(f"log: {result['log']}; recorded lines: {result['recorded_lines']}")
    lines.append("violations: " + ("; ".join(result["violations"]) or "none"))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A real guard under load and faults from a seed.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--streams", type=int, default=500, help="at once")
    parser.add_argument("--seed", type=int, default=1, help="of faults and clients")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument("--plan", action="store_true", help="only print the faults")
    args = parser.parse_args(argv)
    if args.plan:
        for fault in schedule(args.seed, args.minutes * 60):
            print(*fault)
        return 0
    result = asyncio.run(soak(args.minutes * 60, args.streams, args.seed))
    print(shown(result))
    if args.json:
        print(json.dumps(result))
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
