"""
Has traces that show a loop go on, where the recording and not the model ended them too early.

    python -m guard.lab.trace_lengthen RAW.jsonl tests/data/traces/*.jsonl.gz

A loop must be found within LEAST_AFTER tokens, so a trace that breaks off earlier says nothing of what finds loops.
What is too short is told from the label and the recording's own limit alone, never from what a policy makes of it.

The text that was recorded and labelled stays as it is: it is given to the model as the beginning of its answer, and
what the model then says is appended, with the same temperature and draft depth. Where the cache was spoiled, the same
rows are spoiled in the same way after the same token, and the rest of the recorded text is computed on that cache.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from guard.errors import GuardError, SetupError
from guard.lab.cases import CaseKind
from guard.lab.embedded import EmbeddedOptions
from guard.lab.trace_labels import Trace, read_traces
from guard.lab.trace_plans import Plan
from guard.lab.traces import NUM_SLOTS, SEED, SETS, Station, read_steps, record_on

#: A trace that shows a loop goes on for so long after `first_bad_token`, unless the model ends it. Unit: tokens.
LEAST_AFTER = 200


class Longer(NamedTuple):
    """
    A trace that is to go on.

    Args:
        trace: As recorded.
        plan: By which it was.
        tokens: How many are missing. Unit: tokens.
    """

    trace: Trace
    plan: Plan
    tokens: int


def length(trace: Trace) -> int:
    """Tokens of a trace."""
    return sum(int(count) for _, count, *_ in trace.chunks)


def too_short(traces: Iterable[Trace]) -> list[Longer]:
    """
    Those that show a loop, were ended by the recording's limit, and go on for less than LEAST_AFTER tokens after it.

    Raises:
        KeyError: No plan has the name of one of them.
    """
    by_id = {plan.id: plan for made in SETS.values() for plan in made()}
    found = []
    for trace in traces:
        if trace.kind == CaseKind.REPETITION and trace.first_bad_token is not None:
            plan, size = by_id[trace.id], length(trace)
            missing = trace.first_bad_token + LEAST_AFTER - size
            # A longer one has gone on before: then it is the model that ended it.
            if missing > 0 and size == plan.num_tokens:
                found.append(Longer(trace, plan, missing))
    return found


async def lengthen(station: Station, longer: Longer) -> Trace:
    """
    Have a trace go on.

    Raises:
        SetupError: The backend refused a request, or reused less of the spoiled cache than was spoiled.
    """
    trace, plan, _ = longer
    prompt = await _open_prompt(station, plan.prompt)
    text = "".join(str(piece) for piece, *_ in trace.chunks)
    if trace.injected_at is not None:
        await _spoil(station, plan, prompt + text_before(trace, trace.injected_at))
    body = _body(longer, prompt + text, station.slot)
    added = await read_steps(station.client, f"{station.replica.url}/v1/completions", body)
    await station.replica.heal()
    return msgspec.structs.replace(trace, chunks=[*trace.chunks, *added], continued_at=length(trace))


def text_before(trace: Trace, token: int) -> str:
    """The text of the verify steps that were over at a token."""
    pieces, tokens = [], 0
    for piece, count, *_ in trace.chunks:
        tokens += int(count)
        if tokens > token:
            break
        pieces.append(str(piece))
    return "".join(pieces)


async def _open_prompt(station: Station, prompt: str) -> str:
    """The conversation as the model reads it, up to where its answer begins."""
    body = {"messages": [{"role": "user", "content": prompt}]}
    reply = await station.client.post(f"{station.replica.url}/apply-template", json=body)
    if reply.status_code != 200:
        raise SetupError(f"the backend answered {reply.status_code}: {reply.content[:200]!r}")
    return str(reply.json()["prompt"])


async def _spoil(station: Station, plan: Plan, text: str) -> None:
    """Leave the slot with a cache of a text that is spoiled as the plan says."""
    if plan.fault is not None:
        station.replica.arm(msgspec.structs.replace(plan.fault, onset_token=0))
    body = {"prompt": text, "max_tokens": 1, "id_slot": station.slot, "temperature": 0}
    reply = await station.client.post(f"{station.replica.url}/v1/completions", json=body)
    if reply.status_code != 200:
        raise SetupError(f"the backend answered {reply.status_code}: {reply.content[:200]!r}")
    if plan.draft_onset is not None:
        rows = int(reply.json()["usage"]["prompt_tokens"])
        await asyncio.to_thread(station.draft.spoil, station.slot, rows, SEED)


def _body(longer: Longer, text: str, slot: int) -> dict[str, Any]:
    plan = longer.plan
    return {
        "prompt": text,
        "stream": True,
        "temperature": plan.temperature,
        "seed": SEED,
        "max_tokens": longer.tokens,
        "timings_per_token": True,
        "id_slot": slot,
        "ignore_eos": plan.fault is not None or plan.draft_onset is not None,
    }


async def lengthen_all(wanted: Sequence[Longer], out: Path, threads: int | None = None) -> None:
    """
    Have traces go on, and append each as soon as it is done.

    Args:
        wanted: Which.
        out: File to append to.
        threads: Compute threads of the server; see `EmbeddedOptions`.
    """
    for depth in dict.fromkeys(longer.plan.depth for longer in wanted):
        options = EmbeddedOptions(num_slots=NUM_SLOTS, allow_faults=True, num_speculative_tokens=depth, threads=threads)
        await record_on(options, [longer for longer in wanted if longer.plan.depth == depth], out, lengthen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Lengthen what is too short; gives the exit status."""
    parser = argparse.ArgumentParser(prog="guard.lab.trace_lengthen", description="Have traces that loop go on.")
    parser.add_argument("out", type=Path, help="file to append to, .jsonl; what it holds already is left alone")
    parser.add_argument("traces", type=Path, nargs="+", help="labelled files")
    parser.add_argument("--threads", type=int, help="compute threads")
    args = parser.parse_args(arguments)
    try:
        have = {trace.id for trace in read_traces(args.out)} if args.out.is_file() else set()
        wanted = too_short(trace for path in args.traces for trace in read_traces(path))
        asyncio.run(lengthen_all([one for one in wanted if one.trace.id not in have], args.out, args.threads))
    except GuardError as error:
        print(f"guard.lab.trace_lengthen: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
