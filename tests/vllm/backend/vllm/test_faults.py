"""guard.backend.vllm.faults: only where switched on, only whom it should, and what it leaves behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from guard.backend.testbed.measure import Generation, generate
from guard.backend.testbed.server import VllmServer
from guard.backend.vllm import faults
from guard.backend.vllm.faults import FaultPlan, block_views, choose, plan_of, spoil
from guard.lab.profile import mean_acceptance_length

PROMPT = "Tell a short story about a lighthouse keeper who finds a message in a bottle."
TOKENS = 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def order(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    """Fields of a request's body that ask for a fault."""
    settings = {f"guard_fault_{key}": value for key, value in {"id": name, **settings}.items()}
    return {"vllm_xargs": {"guard_fault": kind, **settings}}


def injections(server: VllmServer, name: str) -> list[dict[str, Any]]:
    """What the server's log says was done for an order."""
    found = [line.split(faults.DONE, 1)[1] for line in server.log_text().splitlines() if faults.DONE in line]
    return [done for done in map(json.loads, found) if done["plan"]["id"] == name]


def length_after(generation: Generation, token: int) -> float:
    """Mean acceptance length of the verify steps after a token."""
    seen, steps = 0, []
    for step in generation.steps:
        seen += 1 + step.accepted
        if seen > token:
            steps.append(step)
    return mean_acceptance_length(steps)


# The plan


def test_a_request_that_asks_for_nothing_has_no_plan() -> None:
    assert plan_of(None) is None
    assert plan_of({"other": 1}) is None


def test_a_plan_is_read_from_flat_arguments() -> None:
    arguments = {"guard_fault": "noise", "guard_fault_onset": "40", "guard_fault_blocks": 0.5, "guard_fault_id": "a"}
    assert plan_of(arguments) == FaultPlan("noise", onset=40, blocks=0.5, id="a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guard_fault": "rot"}, "rot"),
        ({"guard_fault": "noise", "guard_fault_onset": -1}, "onset"),
        ({"guard_fault": "noise", "guard_fault_blocks": 0}, "shares"),
        ({"guard_fault": "noise", "guard_fault_block": 1}, "block"),
    ],
)
def test_a_plan_that_is_not_understood_says_what(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(arguments)


def test_without_the_switch_nothing_is_installed(caplog: pytest.LogCaptureFixture) -> None:
    assert not faults.install({})
    assert not faults.install({faults.SWITCH: "0"})
    assert caplog.text == ""


# What is done to a cache


def test_blocks_are_chosen_by_share_and_seed() -> None:
    blocks = list(range(10, 30))
    assert choose(blocks, 1.0, generator()) == blocks
    half = choose(blocks, 0.5, generator(1))
    assert len(half) == 10
    assert half == sorted(half) == choose(blocks, 0.5, generator(1)) != choose(blocks, 0.5, generator(2))
    assert len(choose(blocks, 0.001, generator())) == 1
    assert choose([], 1.0, generator()) == []


def test_a_cache_is_seen_block_by_block_in_both_layouts() -> None:
    together, apart = torch.zeros(8, 2, 4, 16), torch.zeros(2, 8, 4, 16)
    assert block_views(together, 8).shape == (8, 2, 4, 16)
    block_views(apart, 8)[3] = 1
    assert apart[:, 3].eq(1).all()
    assert apart.sum() == apart[:, 3].numel()
    with pytest.raises(ValueError, match="does not hold 5 blocks"):
        block_views(together, 5)


@pytest.mark.parametrize("kind", ["noise", "zeros", "splice", "shuffle", "duplicate"])
def test_only_the_blocks_named_are_overwritten(kind: Any) -> None:
    clean = torch.randn(6, 2, 4, 16, generator=generator(5))
    cache = clean.clone()
    spoil(cache, [1, 4], FaultPlan(kind), generator(), [3, 5])
    for block in (0, 2, 3, 5):
        assert cache[block].equal(clean[block])
    for block in (1, 4):
        assert not cache[block].equal(clean[block])
    again = clean.clone()
    spoil(again, [1, 4], FaultPlan(kind), generator(), [3, 5])
    assert again.equal(cache)


def test_each_kind_does_what_it_says() -> None:
    clean = 3 + 2 * torch.randn(4, 8, 32, 64, generator=generator(5))
    noise, zeros, splice, shuffle = (clean.clone() for _ in range(4))
    spoil(noise, [0], FaultPlan("noise"), generator(), [])
    assert noise[0].mean().item() == pytest.approx(3, abs=0.2)
    assert noise[0].std().item() == pytest.approx(2, abs=0.2)
    spoil(zeros, [0], FaultPlan("zeros"), generator(), [])
    assert zeros[0].eq(0).all()
    spoil(splice, [0, 1], FaultPlan("splice"), generator(), [3, 2])
    assert splice[0].equal(clean[3])
    assert splice[1].equal(clean[2])
    spoil(shuffle, [0], FaultPlan("shuffle"), generator(), [])
    assert shuffle[0].flatten().sort().values.equal(clean[0].flatten().sort().values)


def test_a_share_of_the_values_is_overwritten() -> None:
    cache = torch.ones(2, 8, 32, 64)
    spoil(cache, [1], FaultPlan("zeros", values=0.1), generator(), [])
    assert 1 - cache[1].mean().item() == pytest.approx(0.1, abs=0.01)


# On a live server: one with a language, and a tiny one for what needs none


async def test_noise_in_the_target_garbles_the_text_and_lowers_acceptance(smollm2_draft_server: VllmServer) -> None:
    server = smollm2_draft_server
    clean = await generate(server, PROMPT, tokens=TOKENS, extra={"cache_salt": "noise"})
    fault = {**order("noise", "noise-live", onset=24), "cache_salt": "noise"}
    spoilt = await generate(server, PROMPT, tokens=TOKENS, extra=fault)
    (done,) = injections(server, "noise-live")
    assert 24 <= done["token"] < 28
    assert len(done["blocks"]) == done["of_blocks"] > 1
    assert done["layers"] == 30
    print(f"clean: {clean.text!r}\nnoise: {spoilt.text!r}")
    print(f"acceptance length {length_after(clean, 28):.2f} -> {length_after(spoilt, 28):.2f}")
    assert spoilt.text[:40] == clean.text[:40]
    assert spoilt.text != clean.text
    assert length_after(spoilt, 28) < 1.4 < length_after(clean, 28)


async def test_a_retry_is_spared_but_finds_the_spoilt_prefix(tiny_draft_server: VllmServer) -> None:
    server, fault = tiny_draft_server, order("noise", "retried", onset=24)
    clean = await generate(server, PROMPT, tokens=TOKENS)
    spoilt = await generate(server, PROMPT, tokens=TOKENS, extra=fault)
    assert spoilt.text != clean.text
    # The same body is another request. Its order is used up; the blocks of its prompt are those that were spoilt.
    retry = await generate(server, PROMPT, tokens=TOKENS, extra=fault)
    assert len(injections(server, "retried")) == 1
    assert retry.text != clean.text
    # Without the prefix cache it is clean.
    bypass = await generate(server, PROMPT, tokens=TOKENS, extra={**fault, "cache_salt": "fresh"})
    assert bypass.text == clean.text


async def test_an_order_hits_as_many_requests_as_it_says(tiny_draft_server: VllmServer) -> None:
    server, fault = tiny_draft_server, order("zeros", "twice", onset=8, times=2, blocks=0.5)
    answers = [
        await generate(server, PROMPT, tokens=TOKENS, extra={**fault, "cache_salt": f"twice-{number}"})
        for number in range(3)
    ]
    assert len(injections(server, "twice")) == 2
    assert answers[0].text == answers[1].text != answers[2].text
    assert all(len(done["blocks"]) < done["of_blocks"] for done in injections(server, "twice"))


async def test_a_fault_in_the_draft_leaves_the_text_alone(tiny_draft_server: VllmServer) -> None:
    server, salt = tiny_draft_server, {"cache_salt": "draft"}
    clean = await generate(server, PROMPT, tokens=2 * TOKENS, extra=salt)
    fault = order("noise", "draft-live", onset=8, layers="draft")
    spoilt = await generate(server, PROMPT, tokens=2 * TOKENS, extra={**fault, **salt})
    assert injections(server, "draft-live")[0]["layers"] == 3
    assert spoilt.text == clean.text
    print(f"acceptance length {length_after(clean, 12):.2f} -> {length_after(spoilt, 12):.2f}")
    assert length_after(spoilt, 12) < length_after(clean, 12) - 0.3


async def test_a_splice_takes_the_rows_of_another_request(tiny_draft_server: VllmServer) -> None:
    server, salt = tiny_draft_server, {"cache_salt": "splice"}
    clean = await generate(server, PROMPT, tokens=TOKENS, extra=salt)
    await generate(server, "Write a recipe for tomato soup with basil.", tokens=TOKENS, extra=salt)
    fault = {**order("splice", "splice-live", onset=8, layers="both"), **salt}
    spoilt = await generate(server, PROMPT, tokens=TOKENS, extra=fault)
    (done,) = injections(server, "splice-live")
    assert done["donor"]
    assert done["layers"] == 7
    assert spoilt.text != clean.text


async def test_an_order_that_is_not_understood_is_refused_and_the_request_served(tiny_draft_server: VllmServer) -> None:
    answer = await generate(tiny_draft_server, "Hello", tokens=4, extra={"vllm_xargs": {"guard_fault": "rot"}})
    assert answer.tokens == 4
    log = tiny_draft_server.log_text()
    assert "guard fault refused" in log
    assert faults.ACTIVE in log


async def test_without_the_switch_a_request_cannot_ask(smollm2_ngram_server: VllmServer) -> None:
    clean = await generate(smollm2_ngram_server, "abc", tokens=32)
    asked = await generate(smollm2_ngram_server, "abc", tokens=32, extra=order("zeros", "off"))
    assert asked.text == clean.text
    assert "guard fault" not in smollm2_ngram_server.log_text()
