"""guard.lab.faulty: what it does to a real cache shows in a real model's text and acceptance."""

from __future__ import annotations

from typing import Any

import pytest

from guard.lab.faulty import FaultPlan, FaultyReplica
from tests.integration.lab.client import acceptance_length, chat_body, stream, text_of

pytestmark = pytest.mark.embedded

BICYCLE = "Explain how a bicycle stays upright, in a few paragraphs."


async def answer(replica: FaultyReplica, **fields: Any) -> tuple[str, list[dict[str, Any]]]:
    body = chat_body(BICYCLE, **{"max_tokens": 32, **fields})
    chunks = await stream(f"{replica.url}/v1/chat/completions", body)
    return text_of(chunks), chunks


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    """The healthy answer, once it was asked for."""
    return {}


@pytest.fixture
async def healthy(faulty: FaultyReplica, known: dict[str, str]) -> str:
    if not known:
        known["text"], _ = await answer(faulty, cache_prompt=False, max_tokens=64)
    return known["text"]


@pytest.mark.parametrize("fault", ["noise", "zero_half", "shuffle", "splice"])
async def test_a_corrupted_prompt_changes_what_the_model_says(faulty: FaultyReplica, healthy: str, fault: str) -> None:
    faulty.arm(FaultPlan(fault, seed=1))
    spoiled, chunks = await answer(faulty)
    assert not healthy.startswith(spoiled)
    assert faulty.history[-1].rows[1] > 20
    if fault == "noise":
        assert acceptance_length(chunks) < 1.4


async def test_the_corruption_stays_in_the_cache_and_a_bypass_cures_it(faulty: FaultyReplica, healthy: str) -> None:
    faulty.arm(FaultPlan("noise", seed=1))
    spoiled, _ = await answer(faulty)
    again, chunks = await answer(faulty, id_slot=0)
    assert again == spoiled
    assert chunks[-1]["timings"]["cache_n"] > 20
    cured, chunks = await answer(faulty, cache_prompt=False)
    assert healthy.startswith(cured)
    assert chunks[-1]["timings"]["cache_n"] == 0
    await faulty.heal()
    assert healthy.startswith((await answer(faulty, id_slot=0))[0])


async def test_a_late_write_spoils_a_running_request_from_its_token_on(faulty: FaultyReplica, healthy: str) -> None:
    faulty.arm(FaultPlan("noise", onset_token=24, seed=1))
    spoiled, chunks = await answer(faulty, max_tokens=64)
    assert 24 <= faulty.history[-1].token < 30
    before = text_of([c for c in chunks if c.get("timings", {}).get("predicted_n", 0) <= 24])
    assert before
    assert healthy.startswith(before)
    assert spoiled != healthy
    assert acceptance_length(chunks, after_token=32) < 1.5
