"""
How many calls an exchange costs the shared Redis, as the Redis itself counts them.

    python -m tests.bench.store_operations [--healthy 200] [--retried 50] [--json]

One real guard, one real Redis. A call is a command that a client sent; what scripts do inside is not counted. What the
guard does once a second whether or not anybody asks it anything is known from its own metrics, and taken off. Exit
code 1 if a healthy exchange costs a call, or one with a retry more than three.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
from pathlib import Path

import aiohttp

from tests.bench.redis_chaos import WORDS, World, guard_process, metrics_of
from tests.integration.state.servers import Server

#: What a guard sends to a store: scripts, and one plain command.
COMMANDS = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_xrevrange")
#: Its calls that no request causes.
BACKGROUND = ("beat", "quality", "ejections", "verdicts", "means")
#: Most calls an exchange.
MOST = 3


def calls_at(server: Server) -> int:
    """Calls that the Redis has had."""
    with server.client() as client:
        stats = client.info("commandstats")
    return sum(int(stats[name]["calls"]) for name in COMMANDS if name in stats)


def in_background(metrics: dict[str, float]) -> int:
    """Calls that were not made for a request."""
    names = tuple(f'guard_store_calls_total{{operation="{operation}"' for operation in BACKGROUND)
    return int(sum(value for name, value in metrics.items() if name.startswith(names)))


async def measured(healthy: int, retried: int) -> dict[str, float]:
    """
    Exchanges of both kinds, one kind after the other.

    Args:
        healthy: How many without a retry.
        retried: How many with one.

    Returns:
        Calls for each exchange by kind; chunks and retries that it took; exchanges that were not whole.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = Server(folder)
        stack.callback(server.kill)
        await asyncio.to_thread(server.start)
        world = World()
        upstreams = await stack.enter_async_context(world.backends())
        url, admin = await stack.enter_async_context(guard_process(folder / "guard", upstreams, server.url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        await asyncio.sleep(3)  # until the store decides

        async def calls() -> int:
            """Those made for requests, at a moment when no call is under way."""
            while True:
                before = in_background(await metrics_of(session, admin))
                seen = await asyncio.to_thread(calls_at, server)
                if in_background(await metrics_of(session, admin)) == before:
                    return seen - before
                await asyncio.sleep(0.05)

        async def asked(cases: list[str], at_once: int) -> int:
            """How many were not whole."""
            spoilt, waiting = 0, iter(cases)

            async def one() -> None:
                nonlocal spoilt
                for case in waiting:
                    spoilt += await world._ask(session, url, case) != "whole"

            await asyncio.gather(*(one() for _ in range(at_once)))
            await asyncio.sleep(0.3)  # ends of retries are told together
            return spoilt

        start = await calls()
        spoilt = await asked([f"good.{number}" for number in range(healthy)], 20)
        middle = await calls()
        spoilt += await asked([f"once.{number}" for number in range(retried)], 2)
        end = await calls()
    return {
        "healthy": healthy,
        "retried": retried,
        "chunks_per_exchange": WORDS,
        "retries": world.phase.retries,
        "calls_per_healthy_exchange": (middle - start) / healthy,
        "calls_per_retried_exchange": (end - middle) / retried,
        "not_whole": spoilt,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--healthy", type=int, default=200)
    parser.add_argument("--retried", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = asyncio.run(measured(args.healthy, args.retried))
    print(json.dumps(result) if args.json else "\n".join(f"{name}: {value:g}" for name, value in result.items()))
    return 1 if result["calls_per_healthy_exchange"] or result["calls_per_retried_exchange"] > MOST else 0


if __name__ == "__main__":
    raise SystemExit(main())
