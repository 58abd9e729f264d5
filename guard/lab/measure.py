"""
Measure a draft: acceptance and speed on the embedded backend, written to its profile.

`python -m guard.lab.measure --draft NAME` regenerates `draft_models/NAME/profile.yaml`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import aiohttp
import msgspec

from guard.data import data_dir
from guard.errors import GuardError
from guard.lab.draft import DEFAULT_DRAFT, load_recipe
from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions
from guard.lab.files import replacing
from guard.lab.profile import PlainRow, Profile, Row, Step, make_row
from guard.lab.progress import best_progress
from guard.proto.sse import SseParser
from guard.wire import Chunk

#: Varied on purpose: prose, a recipe, code, a story, explanation, a list, a letter, an essay.
PROMPTS = (
    "Explain how a bicycle stays upright, in a few paragraphs.",
    "Write a recipe for tomato soup with basil, ingredients first, then numbered steps.",
    "Write a Python function that checks whether a string is a palindrome, and explain it.",
    "Tell a short story about a lighthouse keeper who finds a message in a bottle.",
    "What causes the seasons on Earth? Answer for a ten-year-old.",
    "List ten tips for learning a new language.",
    "Write a polite email to a customer whose parcel is late.",
    "Compare solar and wind power in a short essay.",
)
DEPTHS = (2, 3, 4, 5)
TEMPERATURES = (0.0, 0.7)


@dataclass(frozen=True)
class Generation:
    """
    What one request showed.

    Args:
        steps: Its verify steps; empty without speculation.
        tokens: Tokens generated. Unit: tokens.
        seconds: Time that the engine says it took, the prompt not counted.
    """

    steps: tuple[Step, ...]
    tokens: int
    seconds: float


class _Timings(msgspec.Struct, gc=False):
    predicted_n: int = 0
    predicted_ms: float = 0.0


class _Timed(msgspec.Struct, gc=False):
    timings: _Timings | None = None


def steps_of(chunks: Iterable[Chunk]) -> tuple[Step, ...]:
    """Verify steps of a llama.cpp stream, from its cumulative counters."""
    steps = []
    drafted = accepted = 0
    for chunk in chunks:
        timings = chunk.timings
        if timings is not None and timings.draft_n > drafted:
            steps.append(Step(timings.draft_n_accepted - accepted, timings.draft_n - drafted))
            drafted, accepted = timings.draft_n, timings.draft_n_accepted
    return tuple(steps)


async def generate(
    session: aiohttp.ClientSession, url: str, prompt: str, *, temperature: float, seed: int, tokens: int
) -> Generation:
    """
    Run one chat request on a llama.cpp server, its prompt computed anew.

    Args:
        session: Client session.
        url: Address of the server.
        prompt: The user's message.
        temperature: Sampling temperature.
        seed: Sampling seed.
        tokens: Most tokens to generate. Unit: tokens.
    """
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "timings_per_token": True,
        "cache_prompt": False,
        "max_tokens": tokens,
        "temperature": temperature,
        "seed": seed,
    }
    parser = SseParser()
    datas: list[bytes] = []
    async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        async for piece in reply.content.iter_any():
            datas += [event.data for event in parser.feed(piece) if event.data not in (None, b"[DONE]")]
    chunks = [msgspec.json.decode(data, type=Chunk) for data in datas]
    timings = msgspec.json.decode(datas[-1], type=_Timed).timings or _Timings()
    return Generation(steps_of(chunks), timings.predicted_n, timings.predicted_ms / 1000)


async def measure_options(
    options: EmbeddedOptions, temperatures: Sequence[float], prompts: Sequence[str], tokens: int
) -> list[tuple[float, list[Generation]]]:
    """
    Run all prompts on one backend.

    Returns:
        For each temperature, one generation a prompt.
    """
    results = []
    timeout = aiohttp.ClientTimeout(total=None, sock_read=300)
    # llama.cpp closes its connection after a streamed reply without having said so.
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        EmbeddedBackend(options) as backend,
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
    ):
        # The first request pays for pages that are touched for the first time.
        await generate(session, backend.url, "Hello", temperature=0.0, seed=0, tokens=8)
        for temperature in temperatures:
            generations = [
                await generate(session, backend.url, prompt, temperature=temperature, seed=seed, tokens=tokens)
                for seed, prompt in enumerate(prompts, 1)
            ]
            results.append((temperature, generations))
    return results


def speed(generations: Sequence[Generation]) -> float:
    """Tokens per second over several generations."""
    return sum(g.tokens for g in generations) / max(sum(g.seconds for g in generations), 1e-9)


async def measure_draft(
    draft: str,
    *,
    depths: Sequence[int] = DEPTHS,
    temperatures: Sequence[float] = TEMPERATURES,
    prompts: Sequence[str] = PROMPTS,
    tokens: int = 128,
    threads: int = 1,
) -> Profile:
    """
    Measure one draft at several depths and temperatures.

    Args:
        draft: Name of its recipe.
        depths: Draft depths. Unit: tokens.
        temperatures: Sampling temperatures.
        prompts: User messages.
        tokens: Most tokens to generate for each. Unit: tokens.
        threads: Compute threads.

    Raises:
        ConfigError: There is no such draft.
    """
    load_recipe(draft)  # before the minutes that the rest takes
    progress = best_progress()
    base = EmbeddedOptions(draft=None, num_slots=1, threads=threads)
    progress.start("without speculation")
    plain = [
        PlainRow(temperature, round(speed(generations), 1))
        for temperature, generations in await measure_options(base, temperatures, prompts, tokens)
    ]
    rows: list[Row] = []
    for depth in depths:
        progress.start(f"{draft} at depth {depth}")
        options = replace(base, draft=draft, num_speculative_tokens=depth)
        for temperature, generations in await measure_options(options, temperatures, prompts, tokens):
            steps = [g.steps for g in generations if g.steps]
            rows.append(make_row(steps, depth, temperature, speed(generations)))
    return Profile(
        draft=draft,
        engine=f"llama.cpp in xllamacpp {importlib.metadata.version('xllamacpp')}",
        conditions=f"{platform.machine()}, {threads} compute thread(s), one slot, f16 cache",
        num_prompts=len(prompts),
        tokens_per_prompt=tokens,
        plain=tuple(plain),
        rows=tuple(rows),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: measure and write the profile."""
    parser = argparse.ArgumentParser(prog="python -m guard.lab.measure", description=__doc__)
    parser.add_argument("--draft", default=DEFAULT_DRAFT)
    parser.add_argument("--depths", default=",".join(map(str, DEPTHS)), help="draft depths, such as 2,3")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    depths = [int(depth) for depth in options.depths.split(",")]
    try:
        profile = asyncio.run(
            measure_draft(options.draft, depths=depths, tokens=options.tokens, threads=options.threads)
        )
    except GuardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    path = data_dir("draft_models") / options.draft / "profile.yaml"
    with replacing(path) as temporary:
        head = b"# Written by `python -m guard.lab.measure`; do not edit.\n"
        temporary.write_bytes(head + msgspec.yaml.encode(profile))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
