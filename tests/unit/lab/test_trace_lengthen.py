"""guard.lab.trace_lengthen: which traces go on, from where, and what is asked of the backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest

from guard.errors import SetupError
from guard.lab.draft_memory import DraftCache
from guard.lab.faulty import FaultyReplica
from guard.lab.inject import FaultPlan
from guard.lab.trace_labels import Half, Trace
from guard.lab.trace_lengthen import LEAST_AFTER, Longer, length, lengthen, main, text_before, too_short
from guard.lab.trace_plans import Plan, plans
from guard.lab.traces import SEED, Station

PLANS = {plan.id: plan for plan in plans()}
PLAN = PLANS["loop-counting-k3"]
SPOILED = PLANS["noise-8-at15-bees-t1-k2"]
DRAFT = PLANS["draft-noise-at1-explain-t0-k3"]


def trace(
    plan: Plan = PLAN, onset: int | None = 100, tokens: int = 220, kind: str = "repetition", at: int | None = None
) -> Trace:
    return Trace(
        plan.id, kind, plan.subkind, plan.depth, onset, None, at, Half.TUNING, plan.prompt, 0.0, "llama.cpp",
        [[f" {2 * step}", 2, 1, 3] for step in range(tokens // 2)],
    )  # fmt: skip


class Replica:
    """Stands for a FaultyReplica: what was armed, and whether it was healed."""

    url = "http://replica"

    def __init__(self) -> None:
        self.armed: list[FaultPlan] = []
        self.healed = 0

    def arm(self, plan: FaultPlan) -> None:
        self.armed.append(plan)

    async def heal(self) -> None:
        self.healed += 1


class Draft:
    """Stands for a DraftCache: slot, rows and seed of what was spoiled."""

    def __init__(self) -> None:
        self.spoiled: list[tuple[int, int, int]] = []

    def spoil(self, slot: int, num_rows: int, seed: int) -> None:
        self.spoiled.append((slot, num_rows, seed))


class Bench:
    """A station of such, and the bodies of the requests that it got."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[dict[str, Any]] = []
        self.replica, self.draft = Replica(), Draft()
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        self.station = Station(2, cast("FaultyReplica", self.replica), cast("DraftCache", self.draft), client)

    def answer(self, request: httpx.Request) -> httpx.Response:
        body = msgspec.json.decode(request.content)
        if request.url.path == "/apply-template":
            return httpx.Response(self.status, json={"prompt": f"<{body['messages'][0]['content']}>"})
        self.bodies.append(body)
        if not body.get("stream"):
            return httpx.Response(self.status, json={"usage": {"prompt_tokens": 31}})
        timings = {"predicted_n": 3, "draft_n": 3, "draft_n_accepted": 2}
        event = msgspec.json.encode({"choices": [{"index": 0, "text": " more"}], "timings": timings})
        return httpx.Response(self.status, content=b"data: " + event + b"\n\ndata: [DONE]\n\n")


def test_a_loop_that_the_limit_cut_off_goes_on_to_the_least() -> None:
    (longer,) = too_short([trace(onset=100)])
    assert longer == Longer(trace(onset=100), PLAN, LEAST_AFTER - 120)


@pytest.mark.parametrize(
    "fine",
    [
        trace(onset=220 - LEAST_AFTER),
        trace(onset=None, kind="healthy"),
        trace(onset=100, kind="garbled"),
        trace(onset=100, tokens=180),  # the model ended it
        trace(onset=100, tokens=240),  # it went on once, and then the model ended it
    ],
)
def test_what_is_long_enough_or_ended_by_the_model_or_no_loop_stays(fine: Trace) -> None:
    assert not too_short([fine])


def test_text_before_a_token_is_that_of_whole_steps() -> None:
    assert text_before(trace(), 4) == " 0 2"
    assert text_before(trace(), 5) == " 0 2"
    assert text_before(trace(), 0) == ""


async def test_the_recorded_text_stays_and_what_the_model_adds_is_appended() -> None:
    bench = Bench()
    before = trace()
    after = await lengthen(bench.station, Longer(before, PLAN, 80))
    assert after.chunks[:-1] == before.chunks
    assert after.chunks[-1] == [" more", 3, 2, 3]
    assert (after.continued_at, length(after)) == (220, 223)
    (body,) = bench.bodies
    assert body["prompt"] == f"<{PLAN.prompt}>" + "".join(str(text) for text, *_ in before.chunks)
    assert (body["max_tokens"], body["id_slot"], body["ignore_eos"]) == (80, 2, False)
    assert bench.replica.healed == 1
    assert not bench.replica.armed


async def test_the_cache_is_spoiled_after_the_same_token_and_only_then_the_rest_is_computed() -> None:
    bench = Bench()
    await lengthen(bench.station, Longer(trace(SPOILED, at=16), SPOILED, 80))
    first, second = bench.bodies
    assert SPOILED.fault is not None
    assert bench.replica.armed == [msgspec.structs.replace(SPOILED.fault, onset_token=0)]
    assert first["prompt"] == f"<{SPOILED.prompt}> 0 2 4 6 8 10 12 14"
    assert second["prompt"].startswith(first["prompt"] + " 16")
    assert second["ignore_eos"]


async def test_a_spoiled_draft_is_spoiled_again() -> None:
    bench = Bench()
    await lengthen(bench.station, Longer(trace(DRAFT, at=2), DRAFT, 80))
    assert bench.draft.spoiled == [(2, 31, SEED)]
    assert not bench.replica.armed


@pytest.mark.parametrize("at", [None, 16])
async def test_a_refusal_is_told(at: int | None) -> None:
    with pytest.raises(SetupError, match="503"):
        await lengthen(Bench(status=503).station, Longer(trace(SPOILED, at=at), SPOILED, 80))


def test_nothing_to_do_starts_no_backend(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_bytes(msgspec.json.encode(trace(kind="healthy", onset=None)) + b"\n")
    assert main([str(tmp_path / "out.jsonl"), str(file)]) == 0
    assert not (tmp_path / "out.jsonl").exists()


def test_what_is_no_trace_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_bytes(b"{}\n")
    assert main([str(tmp_path / "out.jsonl"), str(file)]) == 2
    assert "not a trace" in capsys.readouterr().err
