"""guard.lab.trace_lengthen on a real engine: what goes on is the model's, on a draft spoiled as before."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from guard.lab.embedded import EmbeddedOptions
from guard.lab.trace_labels import Trace, read_traces
from guard.lab.trace_lengthen import Longer, length, lengthen
from guard.lab.trace_plans import Plan
from guard.lab.traces import record, record_on

pytestmark = pytest.mark.embedded

SHORT = Plan("short", "Explain how a bicycle stays upright, in a few paragraphs.", "prose", num_tokens=40)
SPOILED = msgspec.structs.replace(SHORT, id="spoiled", draft_onset=24)


def accepted_from(trace: Trace, first: int) -> list[int]:
    """Draft tokens kept by each full verify step from a token on."""
    kept, tokens = [], 0
    for _, count, accepted, drafted in trace.chunks:
        tokens += int(count)
        if tokens > first and int(drafted) == SHORT.depth:
            kept.append(int(accepted))
    return kept


async def test_it_goes_on_where_it_ended_with_the_draft_as_it_was(tmp_path: Path) -> None:
    options = EmbeddedOptions(num_slots=1, allow_faults=True)
    await record_on(options, [SHORT, SPOILED], tmp_path / "raw.jsonl", record)
    before = {trace.id: trace for trace in read_traces(tmp_path / "raw.jsonl")}
    wanted = [Longer(before[plan.id], plan, 30) for plan in (SHORT, SPOILED)]
    await record_on(options, wanted, tmp_path / "longer.jsonl", lengthen)
    after = {trace.id: trace for trace in read_traces(tmp_path / "longer.jsonl")}
    for name, trace in after.items():
        assert trace.chunks[: len(before[name].chunks)] == before[name].chunks
        assert (trace.continued_at, length(trace)) == (40, 70)
    good, spoiled = (accepted_from(after[plan.id], 44) for plan in (SHORT, SPOILED))
    assert sum(good) / len(good) > 1
    assert sum(spoiled) / len(spoiled) < 0.3
