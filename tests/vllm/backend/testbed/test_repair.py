"""guard.backend.testbed.repair: vLLM's own fault in sampling, shown and repaired."""

from __future__ import annotations

import re

import pytest
import torch

from guard.backend.testbed.measure import generate
from guard.backend.testbed.repair import REPAIR_VARIABLE, expand_batch_to_tokens, register
from guard.backend.testbed.server import VllmServer

PROMPT = "Explain how a bicycle stays upright."


#: Two in five words of English text are of this kind, and next to none of a salad drawn from a vocabulary.
COMMON = (
    "a an and are as at be by can for from has have in is it its of on or that the their they this to when with you"
)


def sense(text: str) -> float:
    """Share of a text's words that are common English ones."""
    words = re.findall(r"\w+", text.lower())
    return sum(word in COMMON.split() for word in words) / max(len(words), 1)


def test_each_request_has_its_value_for_each_of_its_tokens() -> None:
    expanded = expand_batch_to_tokens(
        torch.tensor([0.5, 0.0, 0.7]), torch.tensor([2, 5, 6], dtype=torch.int32), 6, 0, 1
    )
    assert expanded.tolist() == pytest.approx([0.5, 0.5, 1, 1, 1, 0.7])
    assert expand_batch_to_tokens(torch.tensor([3, 4]), torch.tensor([0, 2]), 2).tolist() == [4, 4]


def test_without_its_switch_nothing_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.sample import rejection_sampler  # noqa: PLC0415

    before = rejection_sampler.expand_batch_to_tokens
    monkeypatch.delenv(REPAIR_VARIABLE, raising=False)
    register()
    assert rejection_sampler.expand_batch_to_tokens is before


def test_with_its_switch_it_is_replaced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.sample import rejection_sampler  # noqa: PLC0415

    monkeypatch.setattr(rejection_sampler, "expand_batch_to_tokens", rejection_sampler.expand_batch_to_tokens)
    monkeypatch.setenv(REPAIR_VARIABLE, "1")
    register()
    register()
    assert rejection_sampler.expand_batch_to_tokens is expand_batch_to_tokens


async def test_sampled_text_is_sensible_with_the_repair(smollm2_draft_server: VllmServer) -> None:
    text = (await generate(smollm2_draft_server, PROMPT, temperature=0.7, seed=1, tokens=64)).text
    assert sense(text) > 0.2
