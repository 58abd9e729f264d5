"""
Records labelled traces on the embedded backend: `python -m guard.lab.traces OUT.jsonl.gz [LABELS.yaml]`.

Healthy answers over many kinds of task, temperatures and draft depths; the same tasks with the KV cache
really corrupted, in several modes and strengths; and prompts over which a small model loops by itself.
What a corrupted run came to is not known beforehand: it may be salad, a loop, or fluent text. A reader
says so in the labels file; without a label a corrupted run counts as `rescore_only`.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import yaml

from guard.errors import SetupError
from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions
from guard.lab.faulty import FaultPlan, FaultyReplica
from guard.lab.progress import best_progress
from guard.proto.openai import decode_chunk, is_done, sample_texts
from guard.proto.sse import SseParser
from guard.signals.llama import LlamaAdapter
from guard.types import Sample

#: Tokens of one trace. Unit: tokens.
NUM_TOKENS = 160
#: Draft depths of the healthy traces. Unit: tokens.
DEPTHS = (3, 2, 5)
#: Token at which the cache of a running request goes bad. Unit: tokens.
LATE_ONSET = 50
#: Cache rows hit by a weak fault. Unit: rows.
WEAK_ROWS = 16

TASKS = {
    "explain": "Explain how a lock and key works, in a few paragraphs.",
    "story": "Tell a short story about a baker who finds a map in a sack of flour.",
    "code": "Write a Python function that counts the vowels in a string, and explain it line by line.",
    "list": "List ten things to pack for a week of walking in the mountains, with a reason for each.",
    "table": "Make a Markdown table of six planets with their size and distance from the sun.",
    "email": "Write a polite email to a hotel, asking to move a booking by two days.",
    "json": "Give a JSON object that describes three books with title, author, year and tags.",
    "poem": "Write a poem of four stanzas about the first snow.",
    "history": "What were the main effects of the invention of the printing press?",
    "compare": "Compare trains and buses for travelling between two cities.",
    "steps": "Describe step by step how to repot a plant that has become too large.",
    "dialogue": "Write a dialogue between a teacher and a pupil about why the sea is salty.",
    "summary": "Summarise in one paragraph what a library does for a town.",
    "copy": "Repeat this sentence exactly three times: The ferry leaves at nine from the north pier.",
    "maths": "Solve 3x + 7 = 25 and explain every step.",
    "advice": "How can somebody who is shy learn to speak in front of a group?",
}
#: Prompts over which this model says the same thing again and again when it is greedy.
LOOPS = {
    "refrain": "Write the refrain of a song that never ends.",
    "counting": "Count the stars one by one and say what you feel at each.",
    "chant": "Chant the word river, slowly, for a long time.",
    "promise": "Write out a promise to tidy your room, many times.",
}
FAULTED = ("explain", "story", "steps", "history")


class Plan(msgspec.Struct, frozen=True):
    """
    One trace to be recorded.

    Args:
        id: Its name.
        prompt: What is asked.
        temperature: Sampling temperature.
        depth: Draft depth. Unit: tokens.
        fault: What is done to the cache, if anything.
    """

    id: str
    prompt: str
    temperature: float = 0.0
    depth: int = 3
    fault: FaultPlan | None = None


def plans() -> Iterator[Plan]:
    """All traces, in the order in which they are recorded."""
    for depth in DEPTHS:
        for name, prompt in list(TASKS.items())[:: 1 if depth == DEPTHS[0] else 2]:
            for temperature in (0.0, 0.7):
                yield Plan(f"healthy-{name}-t{temperature:g}-k{depth}", prompt, temperature, depth)
    for name, prompt in LOOPS.items():
        yield Plan(f"loop-{name}", prompt)
    for seed, task in enumerate(FAULTED):
        for fault in ("noise", "zero_half", "shuffle", "splice"):
            for onset in (0, LATE_ONSET):
                for rows in (None, WEAK_ROWS):
                    where = f"{'all' if rows is None else rows}-at{onset}"
                    plan = FaultPlan(fault, onset_token=onset, seed=seed, first_row=4, num_rows=rows)
                    yield Plan(f"{fault}-{where}-{task}", TASKS[task], fault=plan)


class Trace(msgspec.Struct):
    """A recorded trace: one line of the file. See guard.lab.cases for the fields."""

    id: str
    kind: str
    subkind: str
    num_speculative_tokens: int
    first_bad_token: int | None
    hard_negative: str | None
    prompt: str
    temperature: float
    engine: str
    chunks: list[list[str | int]]


def chunks_of(samples: Sequence[Sample]) -> list[list[str | int]]:
    """
    One `[text, tokens, accepted, drafted]` for each verify step.

    llama.cpp sends the tokens of one step as several chunks; a step's text is all that came since the
    step before it.

    Args:
        samples: As the adapter read them, the open step at the end included.
    """
    out: list[list[str | int]] = []
    text, tokens = "", 0
    for sample in samples:
        text += "".join(piece for _, piece in sample.texts)
        tokens += sample.tokens
        for step in sample.steps:
            out.append([text, tokens, step.accepted, step.drafted])
            text, tokens = "", 0
    if text or tokens:
        out.append([text, tokens, 0, 0])
    return out


async def record(client: httpx.AsyncClient, url: str, plan: Plan) -> list[list[str | int]]:
    """Have one answer generated and read its verify steps."""
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": plan.prompt}],
        "stream": True,
        "temperature": plan.temperature,
        "seed": 1,
        "max_tokens": NUM_TOKENS,
        "timings_per_token": True,
    }
    if plan.fault is not None:
        body["ignore_eos"] = True
    parser, adapter, samples = SseParser(), LlamaAdapter(), []
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
        if reply.status_code != 200:
            raise SetupError(f"the backend answered {reply.status_code}: {(await reply.aread())[:200]!r}")
        async for data in reply.aiter_bytes():
            for event in parser.feed(data):
                if event.data is not None and not is_done(event.data):
                    samples += adapter.observe(decode_chunk(event.data), sample_texts)
    return chunks_of([*samples, *adapter.finish()])


async def record_all(wanted: Sequence[Plan]) -> AsyncIterator[Trace]:
    """Record the plans, those of one depth on one backend: the server takes its depth at start only."""
    for depth in sorted({plan.depth for plan in wanted}):
        async for trace in _record_depth(depth, [plan for plan in wanted if plan.depth == depth]):
            yield trace


async def _record_depth(depth: int, wanted: Sequence[Plan]) -> AsyncIterator[Trace]:
    options = EmbeddedOptions(num_slots=1, allow_faults=True, num_speculative_tokens=depth)
    with best_progress() as progress:
        backend = EmbeddedBackend(options, progress)
    limits = httpx.Limits(max_keepalive_connections=0)
    async with (
        backend,
        FaultyReplica(backend.url, backend.slots_folder, order=backend.order) as replica,
        httpx.AsyncClient(timeout=180, limits=limits) as client,
    ):
        for plan in wanted:
            if plan.fault is not None:
                replica.arm(plan.fault)
            chunks = await record(client, replica.url, plan)
            replica.disarm()
            await replica.heal()
            yield _trace(plan, chunks)


def _trace(plan: Plan, chunks: list[list[str | int]]) -> Trace:
    fault = plan.fault
    return Trace(
        id=plan.id,
        kind="healthy" if fault is None else "rescore_only",
        subkind=plan.id.split("-")[0],
        num_speculative_tokens=plan.depth,
        first_bad_token=None if fault is None else fault.onset_token,
        hard_negative=None,
        prompt=plan.prompt,
        temperature=plan.temperature,
        engine="llama.cpp",
        chunks=chunks,
    )


def labelled(trace: Trace, labels: dict[str, Any]) -> Trace:
    """
    A trace with what a reader said of it.

    Args:
        trace: As recorded.
        labels: By trace id: a kind, or [kind, first bad token].
    """
    label = labels.get(trace.id)
    if label is None:
        return trace
    kind, onset = label if isinstance(label, list) else (label, trace.first_bad_token)
    return msgspec.structs.replace(trace, kind=kind, first_bad_token=None if kind == "healthy" else onset or 0)


async def _main(out: Path, labels: dict[str, Any]) -> None:
    wanted = list(plans())
    with gzip.open(out, "wb") as file:
        count = 0
        async for trace in record_all(wanted):
            file.write(msgspec.json.encode(labelled(trace, labels)) + b"\n")
            count += 1
            print(f"{count}/{len(wanted)} {trace.id}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Record all traces into a file."""
    parser = argparse.ArgumentParser(prog="guard.lab.traces", description="Record labelled traces.")
    parser.add_argument("out", type=Path, help="file to write, .jsonl.gz")
    parser.add_argument("labels", type=Path, nargs="?", help="what a reader said of the traces")
    args = parser.parse_args(arguments)
    labels = yaml.safe_load(args.labels.read_text(encoding="utf-8")) if args.labels else {}
    asyncio.run(_main(args.out, labels))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
