"""
Prefill and decode as two real servers behind the guard; run it in the environment of deploy/vllm_env.sh.

    python -m tests.bench.race_free_serve --requests 500

Mixed requests, a fifth of them aborted at random moments. Every finished answer is compared with the one that the
decode engine alone gives at temperature 0; at the end no block may be missing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from typing import Any

import aiohttp

from guard.backend.testbed.disaggregated import Halves, disaggregated
from guard.config import Config, Listen, UpstreamSettings
from guard.policy.judge import Judge
from guard.server.run import running_guard
from guard.shipped import find_policy
from tests.vllm.backend.vllm.push.bed import options

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_USAGE = "vllm:kv_cache_usage_perc"


def request(dice: random.Random) -> dict[str, Any]:
    """A request of any kind."""
    text = "".join(dice.choices(_LETTERS, k=dice.choice((30, 90, 200, 500))))
    body: dict[str, Any] = {
        "model": "model",
        "temperature": 0,
        "max_tokens": dice.choice((1, 8, 32)),
        "ignore_eos": True,
    }
    if dice.random() < 0.5:
        return {**body, "prompt": text}
    return {**body, "messages": [{"role": "user", "content": text}]}


class Refused(Exception):
    """An answer that is an error."""


async def ask(client: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> str:
    """The whole answer's text."""
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    async with client.post(url + path, json=body) as reply:
        if reply.status != 200:
            raise Refused(f"{reply.status}: {await reply.text()}")
        answer = await reply.json()
    choice = answer["choices"][0]
    return str(choice["text"] if "prompt" in body else choice["message"]["content"])


async def metric(client: aiohttp.ClientSession, url: str, name: str) -> float:
    """Sum of a metric's samples."""
    async with client.get(f"{url}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


async def load(client: aiohttp.ClientSession, guard: str, halves: Halves, count: int, at_once: int) -> Counter[str]:
    """All requests; what became of them."""
    dice, seen = random.Random(7), Counter[str]()
    bodies = [request(dice) for _ in range(count)]
    # In a part of the prefix cache of its own, or the content would be there already and nothing be pushed.
    healthy = [await ask(client, halves.decode.url, {**body, "cache_salt": "alone"}) for body in bodies]
    patience = [dice.uniform(0, 0.6) if dice.random() < 0.2 else None for _ in bodies]
    gate = asyncio.Semaphore(at_once)

    async def one(body: dict[str, Any], answer: str, seconds: float | None) -> None:
        async with gate:
            try:
                found = await asyncio.wait_for(ask(client, guard, body), seconds)
            except TimeoutError:
                seen["aborted"] += 1
                return
            except (Refused, aiohttp.ClientError) as error:
                print(error, flush=True)
                seen["failed"] += 1
                return
        seen["finished"] += 1
        seen["wrong"] += found != answer
        if seen.total() % 50 == 0:
            print(dict(seen), flush=True)

    await asyncio.gather(*map(one, bodies, healthy, patience))
    return seen


async def main() -> int:
    """Print what became of the requests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=8)
    chosen = parser.parse_args()
    async with disaggregated(options()) as halves, aiohttp.ClientSession() as client:
        config = Config(
            upstreams=[UpstreamSettings(url=halves.url, engine="vllm")], listen=Listen(port=0), admin=Listen(port=0)
        )
        async with running_guard(config, Judge(find_policy("observe")), {}) as guard:
            started = time.monotonic()
            seen = await load(client, guard.url, halves, chosen.requests, chosen.at_once)
            seconds = time.monotonic() - started
        urls = {"prefill": halves.prefill.url, "decode": halves.decode.url}
        left: dict[str, float] = {}
        for _ in range(100):
            left = {name: await metric(client, url, _USAGE) for name, url in urls.items()}
            if not any(left.values()):
                break
            await asyncio.sleep(0.3)
        queries = await metric(client, halves.decode.url, "vllm:external_prefix_cache_hits_total")
        print(f"{dict(seen)}, {queries:.0f} tokens pushed, {seconds:.0f} s; caches in use at the end: {left}")
        for name in ("stale_notices_total", "quarantines_total", "handshake_seconds_count"):
            print(f"decode {name}: {await metric(client, halves.decode.url, f'vllm:guard_kv_{name}'):.0f}")
    return int(bool(seen["wrong"] or seen["failed"] or any(left.values())))


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
