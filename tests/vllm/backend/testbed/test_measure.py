"""guard.backend.testbed.measure: what is written is what was measured, and still holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from guard.backend.testbed.drafts import DEFAULT_DRAFT
from guard.backend.testbed.measure import Batch, Generation, generate, steps_of, write_profile
from guard.backend.testbed.server import VllmServer
from guard.lab.measure import PROMPTS
from guard.lab.profile import Step, load_profile, mean_acceptance_length


def test_steps_without_a_draft_are_left_out() -> None:
    metrics = {"speculative_decoding": {"per_step_accepted": [2, 0, 0], "per_step_drafted": [3, 0, 3]}}
    assert steps_of(metrics) == (Step(2, 3), Step(0, 3))
    assert steps_of(None) == steps_of({"speculative_decoding": None}) == ()


def test_speed_is_that_of_all_requests_together() -> None:
    assert Batch(0.0, (Generation("", (), 30), Generation("", (), 10)), 2.0).speed == 20


def test_a_profile_is_written_beside_its_recipe(tmp_path: Path) -> None:
    profile = load_profile(DEFAULT_DRAFT)
    (tmp_path / DEFAULT_DRAFT).mkdir()
    path = write_profile(profile, tmp_path)
    assert path == tmp_path / DEFAULT_DRAFT / "profile.yaml"
    assert load_profile(DEFAULT_DRAFT, tmp_path) == profile


async def test_the_profile_still_holds(smollm2_draft_server: VllmServer) -> None:
    generations = await asyncio.gather(
        *(generate(smollm2_draft_server, prompt, tokens=64, extra={"cache_salt": "measure"}) for prompt in PROMPTS[:4])
    )
    steps = [step for generation in generations for step in generation.steps]
    expected = load_profile(DEFAULT_DRAFT).row(3).mean_acceptance_length
    assert mean_acceptance_length(steps) == pytest.approx(expected, abs=0.6)
