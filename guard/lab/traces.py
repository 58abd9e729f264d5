"""
Records labelled traces on the embedded backend, and puts a reader's labels on them.

    python -m guard.lab.traces record [--set SET] RAW.jsonl
    python -m guard.lab.traces show RAW.jsonl
    python -m guard.lab.traces label LABELS.yaml FOLDER RAW.jsonl

Healthy answers over many kinds of task, temperatures and draft depths; the same kinds of task with the KV cache
really corrupted; corruption of the draft's own cache; and prompts over which a small model loops by itself. What a
run came to is not known beforehand: a reader says so, for every one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
import msgspec

from guard.errors import GuardError, SetupError
from guard.lab.draft import DEFAULT_DRAFT, load_recipe
from guard.lab.draft_memory import DraftCache
from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions
from guard.lab.faulty import FaultyReplica
from guard.lab.progress import best_progress
from guard.lab.relay import TokenCounter
from guard.lab.trace_labels import Trace, half_of, read_labels, read_traces, write_halves
from guard.lab.trace_plans import Plan, plans
from guard.lab.trace_plans_eighth import eighth_plans
from guard.lab.trace_plans_fifth import fifth_plans
from guard.lab.trace_plans_fresh import fresh_plans
from guard.lab.trace_plans_later import later_plans
from guard.lab.trace_plans_seventh import seventh_plans
from guard.lab.trace_plans_sixth import sixth_plans
from guard.proto.openai import decode_chunk, is_done, sample_texts
from guard.proto.sse import SseParser
from guard.signals.llama import LlamaAdapter
from guard.types import Sample

#: Generations recorded at once: llama.cpp computes them in one batch.
NUM_SLOTS = 4
#: Seed of the sampling, and of the noise in the draft's cache.
SEED = 1

Chunks = list[list[str | int]]

#: What a trace is made of: a plan, or a trace that is to go on.
Wanted = TypeVar("Wanted")


class Station(NamedTuple):
    """
    What one generation after the other is recorded on.

    Args:
        slot: The server's slot.
        replica: Spoils the target's cache of that slot.
        draft: Spoils the draft's.
        client: For requests.
    """

    slot: int
    replica: FaultyReplica
    draft: DraftCache
    client: httpx.AsyncClient


def chunks_of(samples: Sequence[Sample]) -> Chunks:
    """
    One `[text, tokens, accepted, drafted]` for each verify step.

    llama.cpp sends the tokens of one step as several chunks; a step's text is all that came since the
    step before it.

    Args:
        samples: As the adapter read them, the open step at the end included.
    """
    out: Chunks = []
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


async def read_steps(
    client: httpx.AsyncClient,
    url: str,
    body: Mapping[str, Any],
    passed: Callable[[TokenCounter], Awaitable[None]] | None = None,
) -> Chunks:
    """
    Have something generated, and read its verify steps.

    Args:
        client: For the request.
        url: A route that generates, in chat or as plain text.
        body: The request; it must ask for a stream.
        passed: Called with the tokens so far after each piece of the reply.

    Raises:
        SetupError: The backend refused the request.
    """
    parser, adapter, counter, samples = SseParser(), LlamaAdapter(), TokenCounter(), list[Sample]()
    async with client.stream("POST", url, json=dict(body)) as reply:
        if reply.status_code != 200:
            raise SetupError(f"the backend answered {reply.status_code}: {(await reply.aread())[:200]!r}")
        async for data in reply.aiter_bytes():
            counter.feed(data)
            for event in parser.feed(data):
                if event.data is not None and not is_done(event.data):
                    samples += adapter.observe(decode_chunk(event.data), sample_texts)
            if passed is not None:
                await passed(counter)
    return chunks_of([*samples, *adapter.finish()])


async def record(station: Station, plan: Plan) -> Trace:
    """
    Have one answer generated, spoil what the plan says while it runs, and read its verify steps.

    Raises:
        SetupError: The backend refused the request, or the answer ended before the fault was due.
    """
    injected: int | None = None

    async def spoil_draft(counter: TokenCounter) -> None:
        nonlocal injected
        if plan.draft_onset is not None and injected is None and counter.tokens >= plan.draft_onset:
            injected = counter.tokens
            await asyncio.to_thread(station.draft.spoil, station.slot, counter.context_tokens, SEED)

    if plan.fault is not None:
        station.replica.arm(plan.fault)
    url = f"{station.replica.url}/v1/chat/completions"
    chunks = await read_steps(station.client, url, _body(plan, station.slot), spoil_draft)
    if plan.fault is not None:
        if not station.replica.history:
            raise SetupError(f"{plan.id}: the answer ended before the fault was due")
        injected = station.replica.history.pop().token
    station.replica.disarm()
    await station.replica.heal()
    return _trace(plan, chunks, injected)


def _body(plan: Plan, slot: int) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": plan.prompt}],
        "stream": True,
        "temperature": plan.temperature,
        "seed": SEED,
        "max_tokens": plan.num_tokens,
        "timings_per_token": True,
        "id_slot": slot,
        # A corrupted model may stop at once, which leaves nothing to judge; a fault that is due needs its token.
        "ignore_eos": plan.fault is not None or plan.draft_onset is not None,
    }


def _trace(plan: Plan, chunks: Chunks, injected: int | None) -> Trace:
    return Trace(
        id=plan.id,
        kind="",
        subkind=plan.subkind,
        num_speculative_tokens=plan.depth,
        first_bad_token=None,
        hard_negative=plan.hard_negative,
        injected_at=injected,
        half=plan.half or half_of(plan.prompt),
        prompt=plan.prompt,
        temperature=plan.temperature,
        engine="llama.cpp",
        chunks=chunks,
    )


#: Plans by the set that is asked for.
SETS = {
    "first": plans,
    "fresh": fresh_plans,
    "later": later_plans,
    "fifth": fifth_plans,
    "sixth": sixth_plans,
    "seventh": seventh_plans,
    "eighth": eighth_plans,
}


def missing(out: Path, wanted: str = "first") -> list[Plan]:
    """The plans of one of SETS of which a file, that need not be there, holds no trace."""
    have = {trace.id for trace in read_traces(out)} if out.is_file() else set()
    return [plan for plan in SETS[wanted]() if plan.id not in have]


async def record_all(
    wanted: Sequence[Plan], out: Path, *, num_slots: int = NUM_SLOTS, threads: int | None = None
) -> None:
    """
    Record plans, and append each trace as soon as it is done.

    Those of one depth are recorded on one backend: the server takes its depth at start only.

    Args:
        wanted: What to record.
        out: File to append to, one trace a line.
        num_slots: Generations at once.
        threads: Compute threads of the server; see `EmbeddedOptions`.
    """
    for depth in dict.fromkeys(plan.depth for plan in wanted):
        mine = [plan for plan in wanted if plan.depth == depth]
        if mine:
            options = EmbeddedOptions(
                num_slots=num_slots, allow_faults=True, num_speculative_tokens=depth, threads=threads
            )
            await record_on(options, mine, out, record)


async def record_on(
    options: EmbeddedOptions,
    wanted: Sequence[Wanted],
    out: Path,
    make: Callable[[Station, Wanted], Awaitable[Trace]],
) -> None:
    """
    Make traces on one backend, as many at once as it has slots, and append each as soon as it is done.

    Args:
        options: How to run the backend; `allow_faults` for corruption in a running request.
        wanted: What to make.
        out: File to append to.
        make: Makes one of them.
    """
    with best_progress() as progress:
        backend = EmbeddedBackend(options, progress)
    limits = httpx.Limits(max_keepalive_connections=0)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(backend)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=600, limits=limits, trust_env=False))
        draft = DraftCache(backend, load_recipe(options.draft or DEFAULT_DRAFT))
        stations = []
        for slot in range(options.num_slots):
            replica = FaultyReplica(backend.url, backend.slots_folder, order=backend.order, slot=slot)
            await stack.enter_async_context(replica)
            await draft.locate(client, slot)
            stations.append(Station(slot, replica, draft, client))
        left = iter(wanted)
        async with asyncio.TaskGroup() as group:
            for station in stations:
                group.create_task(_work(station, left, out, make))


async def _work(
    station: Station, left: Iterator[Wanted], out: Path, make: Callable[[Station, Wanted], Awaitable[Trace]]
) -> None:
    """Make what is left, one after the other; the stations share the rest."""
    for one in left:
        trace = await make(station, one)
        with out.open("ab") as file:
            file.write(msgspec.json.encode(trace) + b"\n")
        print(trace.id, file=sys.stderr, flush=True)


def shown(trace: Trace, every: int = 20) -> str:
    """
    A trace for a reader: its text with the token number now and then, and the mean acceptance length there.

    Args:
        trace: What to show.
        every: Tokens between two numbers.
    """
    pieces, tokens, steps, mark = [], 0, 0, 0
    for text, count, *_ in trace.chunks:
        pieces.append(str(text))
        tokens += int(count)
        steps += 1
        if tokens - mark >= every:
            pieces.append(f"⟦{tokens}·{(tokens - mark) / steps:.1f}⟧")
            mark, steps = tokens, 0
    head = f"=== {trace.id} | {trace.subkind} | injected at {trace.injected_at} | {trace.kind or 'not labelled'}"
    return f"{head}\n{''.join(pieces)}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="guard.lab.traces", description="Record traces and label them.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record", help="record what the file does not hold yet")
    one.add_argument("out", type=Path, help="file to append to, .jsonl")
    one.add_argument("--slots", type=int, default=NUM_SLOTS, help="generations at once")
    one.add_argument("--threads", type=int, help="compute threads")
    one.add_argument("--set", choices=SETS, default="first", help="which plans")
    one = commands.add_parser("show", help="print traces for a reader")
    one.add_argument("traces", type=Path, nargs="+", help="recorded files")
    one = commands.add_parser("label", help="put labels on traces and write the two halves")
    one.add_argument("labels", type=Path, help="what a reader said of each trace, .yaml")
    one.add_argument("folder", type=Path, help="where tuning.jsonl.gz and unseen.jsonl.gz go")
    one.add_argument("traces", type=Path, nargs="+", help="recorded files, or the two halves themselves")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Record, show or label; gives the exit status."""
    args = _parser().parse_args(arguments)
    try:
        if args.command == "record":
            asyncio.run(record_all(missing(args.out, args.set), args.out, num_slots=args.slots, threads=args.threads))
            return 0
        traces = [trace for path in args.traces for trace in read_traces(path)]
        if args.command == "show":
            print("\n".join(shown(trace) for trace in traces))
            return 0
        counts = write_halves(traces, read_labels(args.labels), args.folder)
    except GuardError as error:
        print(f"guard.lab.traces: {error}", file=sys.stderr)
        return 2
    print(", ".join(f"{count} {half}" for half, count in counts.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
