"""
Random combinations of request shapes, sent to a real backend and through the guard: where do the answers differ?

    python -m tests.bench.fuzz_shapes [--minutes 5] [--seed 1]
    python -m tests.bench.fuzz_shapes --vllm ...           # in the environment of deploy/vllm_env.sh

Each takes one to three of the shapes of the comparison (tests/integration/shapes.py, tests/vllm/server/shapes.py), and
often a grammar, stop words and several choices. The last line is one of JSON; the exit code is 0 when no answer
differed but for ids and times. A shape that differs belongs into the comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
import msgspec
import structlog

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.policy.judge import Judge
from guard.server.run import running_guard
from guard.shipped import find_policy
from tests.integration import shapes as llama
from tests.integration.differential import answer
from tests.integration.shapes import Shape
from tests.vllm.server import shapes as vllm

Fields = dict[str, Any]
#: A shape is compared again when it differs: what comes late is put into one chunk with what follows.
TRIES = 5
#: Texts that the engine ends itself.
ENDS: list[Fields] = [
    {"grammar": 'root ::= " blue and green"'},
    {"grammar": 'root ::= " a.\\n\\nb"'},
    {"grammar": 'root ::= "x😀"'},
    {"grammar": 'root ::= "  \\n yes"'},
]
#: What a grammar excludes.
FORMS = ("json_schema", "response_format", "tools", "tool_choice")
STOPS = {
    "llama.cpp": [
        *(["reen"], [" green"], ["and", "zzz"], ["\n"], ["lue and"], [" blue and green"], ["zzz"], ["d g"]),
        *(["een x"], ["nd gx", "n "], ["e"], "lu", [" y"], ["b"], ["and g", "een."], [""], ["e", "r"]),
    ],
    "vllm": [[","], [" and"], ["e"], ["zzz"], ["th"], [" "], ["\n"]],
}
LIMITS = (3, 4, 6, 9, 14)


class Route(msgspec.Struct, frozen=True):
    """A route's shapes, what every request to it has, and its names for the token limit and stop words."""

    path: str
    shapes: list[Fields]
    base: Fields
    limit: str = "max_tokens"
    stop: str = "stop"
    several: bool = False


ROUTES: dict[str, list[Route]] = {
    "llama.cpp": [
        Route("/v1/chat/completions", llama.CHAT + llama.CHAT_STREAMED, {"messages": [llama.USER]}, several=True),
        Route("/v1/completions", llama.COMPLETIONS + llama.CHAT_STREAMED, {"prompt": "The colours are"}, several=True),
        Route("/v1/messages", llama.MESSAGES, {"messages": [llama.USER]}, stop="stop_sequences"),
        Route("/v1/responses", llama.RESPONSES, {"input": llama.ASK}, "max_output_tokens"),
        Route("/completion", llama.COMPLETION, {"prompt": "The colours are"}, "n_predict", several=True),
    ],
    "vllm": [
        Route("/v1/chat/completions", vllm.CHAT + vllm.STREAMED, {"messages": [vllm.USER]}),
        Route("/v1/completions", vllm.COMPLETIONS + vllm.STREAMED, {"prompt": "The colours are"}),
        Route("/v1/messages", vllm.MESSAGES, {"messages": [vllm.USER]}, stop="stop_sequences"),
        Route("/v1/responses", vllm.RESPONSES, {"input": vllm.ASK}, "max_output_tokens", stop=""),
    ],
}


def combinations(engine: str, seed: int) -> Iterator[Shape]:
    """Shapes without end, the same for the same seed."""
    dice = random.Random(seed)
    while True:
        route = dice.choice(ROUTES[engine])
        fields: Fields = {}
        for _ in range(dice.choice((1, 2, 2, 3))):
            fields |= dice.choice(route.shapes)
        if engine == "llama.cpp" and route.path != "/v1/messages" and dice.random() < 0.5:
            fields = {name: value for name, value in fields.items() if name not in FORMS} | dice.choice(ENDS)
        if route.stop and dice.random() < 0.5:
            fields[route.stop] = dice.choice(STOPS[engine])
        if engine == "llama.cpp" and route.several and dice.random() < 0.15:
            fields["n"] = 2
        some = {"model": "tiny", "temperature": 0, route.limit: dice.choice(LIMITS), "stream": dice.random() < 0.6}
        yield route.path, {**some, **route.base, **fields}


def differences(one: Any, other: Any, place: str = "$") -> list[str]:
    """Where two answers differ, as far as both go."""
    if isinstance(one, dict) and isinstance(other, dict):
        out: list[str] = []
        for name in sorted({*one, *other}):
            if name in one and name in other:
                out += differences(one[name], other[name], f"{place}.{name}")
            else:
                out.append(f"{place}.{name}: only {'direct' if name in one else 'guarded'}")
        return out
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for at, (a, b) in pairs for found in differences(a, b, f"{place}[{at}]")]
    return [] if one == other else [f"{place}: {one!r:.200} against {other!r:.200}"]


async def compare(client: aiohttp.ClientSession, direct: str, guarded: str, shape: Shape) -> list[str]:
    """
    Differences of two answers to one shape; none when they agreed once.

    Args:
        client: For the requests.
        direct: Address of the backend.
        guarded: Address of the guard before it.
        shape: What is asked.
    """
    await answer(client, direct, shape)  # so that both find the same in the backend's prompt cache
    found: list[str] = []
    for _ in range(TRIES):
        found = differences(await answer(client, direct, shape), await answer(client, guarded, shape))
        if not found:
            break
    return found


async def fuzz(url: str, engine: str, seconds: float, seed: int, *, least: int = 1) -> dict[str, Any]:
    """
    Compare until the time is up.

    Args:
        url: Of the backend.
        engine: Its name.
        seconds: How long.
        seed: Of the shapes.
        least: Shapes that are compared however long that takes.

    Returns:
        How many were asked, and how many differ.
    """
    settings = UpstreamSettings(url=url, engine=engine)  # type: ignore[arg-type]
    config = Config(
        upstreams=[settings], listen=Listen(port=0), admin=Listen(port=0), timeouts=TimeoutSettings(drain=0.5)
    )
    asked: Counter[str] = Counter()
    differ = []
    end = time.monotonic() + seconds
    timeout = aiohttp.ClientTimeout(total=120)
    async with (
        running_guard(config, Judge(find_policy("observe"))) as running,
        aiohttp.ClientSession(timeout=timeout) as client,
    ):
        for shape in combinations(engine, seed):
            if time.monotonic() > end and asked.total() >= least:
                break
            asked[shape[0]] += 1
            found = await compare(client, url, running.url, shape)
            if found:
                differ.append({"path": shape[0], "body": shape[1], "differences": found[:4]})
                print(json.dumps(differ[-1]), flush=True)
    return {"engine": engine, "seed": seed, "asked": dict(asked), "differ": len(differ)}


@contextlib.asynccontextmanager
async def backend(engine: str) -> AsyncIterator[str]:
    """Address of a fresh backend."""
    if engine == "vllm":
        from guard.backend.testbed.configurations import tiny  # noqa: PLC0415 - needs vLLM's environment
        from guard.backend.testbed.server import VllmServer  # noqa: PLC0415 - the same

        tools = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
        async with VllmServer(msgspec.structs.replace(tiny("draft"), args=tools)) as server:
            yield server.url
        return
    from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions  # noqa: PLC0415 - needs the demo's extra
    from guard.lab.progress import best_progress  # noqa: PLC0415 - the same

    async with EmbeddedBackend(EmbeddedOptions(), best_progress()) as embedded:
        yield embedded.url


async def _main(options: Mapping[str, Any]) -> dict[str, Any]:
    engine = "vllm" if options["vllm"] else "llama.cpp"
    async with backend(engine) as url:
        return await fuzz(url, engine, options["minutes"] * 60, options["seed"])


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vllm", action="store_true")
    options = vars(parser.parse_args())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    report = asyncio.run(_main(options))
    print(json.dumps(report))
    return 1 if report["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
