"""guard.backend.vllm.race_free.lineage on a real engine whose cached prefixes are spoilt by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from guard.backend.testbed.engine import InprocessEngine, inprocess_engine
from tests.vllm.backend.vllm.push.bed import BLOCK_SIZE, options, prompts, switched

COUNT = 10


class Prefixes:
    """
    An engine with prefix caching.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: InprocessEngine) -> None:
        self.engine = engine
        self._count = 0

    def run(self, tokens: list[int], *, withdraw: bool = False) -> tuple[list[int], int]:
        """The answer, and how many tokens of the prompt were found in the cache."""
        from vllm import SamplingParams  # noqa: PLC0415 - after the environment

        self._count += 1
        extra = {"guard_withdraw": 1} if withdraw else None
        parameters = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, extra_args=extra)
        self.engine.engine.add_request(f"r{self._count}", {"prompt_token_ids": tokens}, parameters)
        last = self.engine.finish()[-1]
        return list(last.outputs[0].token_ids), last.num_cached_tokens

    def blocks_of(self, tokens: list[int]) -> list[int]:
        """Cached blocks of a prompt, found as a look-up finds them."""
        manager = self.engine.scheduler.kv_cache_manager
        seen: list[int] = []
        find = manager.coordinator.find_longest_cache_hit

        def watched(*arguments: Any) -> Any:
            found = find(*arguments)
            seen.extend(block.block_id for block in found[0][0])
            return found

        manager.coordinator.find_longest_cache_hit = watched
        try:
            self.run(tokens)
        finally:
            del manager.coordinator.find_longest_cache_hit
        return seen

    def spoil(self, blocks: list[int]) -> None:
        """As a late write of another request would."""
        for layer in self.engine.model_runner.kv_caches:
            layer[blocks] = -layer[blocks].roll(1, 0)


@pytest.fixture(scope="module")
def prefixes() -> Iterator[Prefixes]:
    settings = options()
    made_of: dict[str, Any] = {
        "num_gpu_blocks_override": 512,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    with switched(settings), inprocess_engine(settings, **made_of) as engine:
        yield Prefixes(engine)


def test_a_withdrawn_prefix_is_computed_anew_and_others_keep_their_hits(prefixes: Prefixes) -> None:
    mine, others = prompts(COUNT, 200, 1), prompts(COUNT, 200, 2)
    healthy = [prefixes.run(tokens)[0] for tokens in mine]
    for tokens in others:
        prefixes.run(tokens)
    full = 200 // BLOCK_SIZE * BLOCK_SIZE
    for tokens, answer in zip(mine, healthy, strict=True):
        blocks = prefixes.blocks_of(tokens)
        assert len(blocks) == 200 // BLOCK_SIZE
        prefixes.spoil(blocks)
        poisoned, found = prefixes.run(tokens)
        assert (poisoned == answer, found) == (False, full), "the damage stays in the cache"
        assert prefixes.run(tokens, withdraw=True) == (answer, 0)
        assert prefixes.run(tokens) == (answer, full), "and the clean prefix is cached again"
    for tokens in others:
        assert prefixes.run(tokens)[1] == full


def test_what_was_computed_on_top_is_withdrawn_too(prefixes: Prefixes) -> None:
    (start,), (end,) = prompts(1, 96, 3), prompts(1, 96, 4)
    healthy, _ = prefixes.run(start + end)
    # The first half alone is spoilt and withdrawn; the second was computed on top of it.
    assert prefixes.run(start + end)[1] == 160
    assert prefixes.run(start, withdraw=True)[1] == 0
    assert prefixes.run(start + end) == (healthy, 96), "the half that was computed anew, and no old block after it"


def test_a_request_that_runs_on_it_publishes_no_more(prefixes: Prefixes) -> None:
    from vllm import SamplingParams  # noqa: PLC0415 - after the environment

    (tokens,) = prompts(1, 90, 5)
    parameters = SamplingParams(temperature=0, max_tokens=120, ignore_eos=True)
    engine = prefixes.engine.engine
    engine.add_request("long", {"prompt_token_ids": tokens}, parameters)
    for _ in range(5):
        engine.step()
    engine.add_request(
        "retry",
        {"prompt_token_ids": tokens},
        SamplingParams(temperature=0, max_tokens=2, extra_args={"guard_withdraw": 1}),
    )
    outputs = prefixes.engine.finish()
    (long,) = [each for each in outputs if each.request_id == "long" and each.finished]
    whole = tokens + list(long.outputs[0].token_ids)
    assert prefixes.run(whole)[1] == 64, "only what the retry computed anew"
