"""Engine names and their adapters."""

from __future__ import annotations

import pytest

from guard.signals.registry import ENGINES, adapter_for


def test_each_engine_has_an_adapter_of_its_own_for_each_attempt() -> None:
    for engine in ENGINES:
        assert adapter_for(engine) is not adapter_for(engine)


def test_what_each_engine_must_be_asked_for() -> None:
    asked = {engine: dict(adapter_for(engine).switches()) for engine in ENGINES}
    assert asked == {
        "llama.cpp": {"timings_per_token": True},
        "vllm": {"return_token_ids": True, "vllm_xargs": {"guard_acceptance": 1}},
        "sglang": {},
        "text": {},
    }


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown engine 'tgi'; one of llama\.cpp, vllm, sglang, text"):
        adapter_for("tgi")


def test_a_draft_depth_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        adapter_for("vllm", 0)
