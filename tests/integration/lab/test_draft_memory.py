"""guard.lab.draft_memory on a real engine: a spoiled draft is refused, and the text stays what it was."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from guard.lab.embedded import EmbeddedOptions
from guard.lab.trace_labels import Trace, read_traces
from guard.lab.trace_plans import Plan
from guard.lab.traces import record, record_on

pytestmark = pytest.mark.embedded

PROMPT = "Explain how a bicycle stays upright, in a few paragraphs."


def text_of(trace: Trace) -> str:
    return "".join(str(chunk[0]) for chunk in trace.chunks)


def acceptance_length(trace: Trace, first: int, last: int) -> float:
    """Tokens of a verify step, over the steps that end from token `first` to token `last`."""
    kept, tokens = [], 0
    for _, count, accepted, drafted in trace.chunks:
        tokens += int(count)
        if first <= tokens <= last and drafted:
            kept.append(int(accepted))
    return 1 + sum(kept) / len(kept)


async def test_a_spoiled_draft_proposes_nonsense_and_the_text_is_the_same(tmp_path: Path) -> None:
    good = Plan("good", PROMPT, "prose", num_tokens=60)
    spoiled = msgspec.structs.replace(good, id="spoiled", draft_onset=24)
    await record_on(EmbeddedOptions(num_slots=1, allow_faults=True), [good, spoiled], tmp_path / "raw.jsonl", record)
    recorded = {trace.id: trace for trace in read_traces(tmp_path / "raw.jsonl")}
    assert acceptance_length(recorded["good"], 30, 60) > 2
    assert acceptance_length(recorded["spoiled"], 1, 24) > 2
    assert acceptance_length(recorded["spoiled"], 34, 60) < 1.3
    assert text_of(recorded["spoiled"]) == text_of(recorded["good"])
    assert recorded["spoiled"].injected_at in range(24, 29)
