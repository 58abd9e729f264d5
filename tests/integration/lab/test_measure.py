"""guard.lab.measure: a short measurement of the real draft looks like its profile."""

from __future__ import annotations

import pytest

from guard.lab.draft import DEFAULT_DRAFT
from guard.lab.measure import PROMPTS, measure_draft
from guard.lab.profile import load_profile

pytestmark = pytest.mark.embedded


async def test_a_short_measurement_agrees_with_the_shipped_profile() -> None:
    short = await measure_draft(DEFAULT_DRAFT, depths=[3], temperatures=[0.0], prompts=PROMPTS[:2], tokens=48)
    row = short.row(3)
    # Greedy text is the same everywhere, but two prompts are not eight.
    assert row.mean_acceptance_length == pytest.approx(
        load_profile(DEFAULT_DRAFT).row(3).mean_acceptance_length, abs=0.6
    )
    assert row.tokens_per_second > 0
    assert short.plain[0].tokens_per_second > 0
