"""
What the race-free cache costs without faults; run it in the environment of deploy/vllm_env.sh.

    python -m tests.bench.race_free_cost

`engine`: tokens a second of a real engine with the rules around its connector, and without, in turns on one engine.
`books`: the time of one transfer's books, for requests of several lengths.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from guard.backend.kv.ids import BlockId, Party
from guard.backend.kv.messages import Done
from guard.backend.testbed.engine import InprocessEngine, inprocess_engine
from guard.backend.vllm.race_free.connector import wrap
from guard.backend.vllm.race_free.ledger import Ledger
from tests.vllm.backend.vllm.push.bed import options, prompts

AT_ONCE, TOKENS = 16, 48


class NoStore:
    """References that nobody counts."""

    def hold(self, blocks: Sequence[BlockId]) -> None:
        """Nothing."""

    def give_back(self, blocks: Sequence[BlockId]) -> None:
        """Nothing."""


def books() -> None:
    """Print the CPU time of one transfer's books."""
    party = Party("P", 0, 1)
    for blocks in (10, 100, 1000):
        ledger = Ledger(NoStore(), 20_000, epoch=1)
        ids = tuple(BlockId(number) for number in range(1, blocks + 1))
        times = []
        for _ in range(30):
            started = time.process_time()
            ledger.receive("r", "room", ids, (party,), 0)
            (send,) = ledger.outbox
            ledger.outbox.clear()
            ledger.handle(Done(*send.message.owner, *party), 0)  # type: ignore[union-attr]
            times.append(time.process_time() - started)
        micros = statistics.median(times) * 1e6
        print(
            f"books of a transfer of {blocks:4} blocks: {micros:6.0f} us, {micros / blocks:.1f} us a block, of CPU",
            flush=True,
        )


class Switch:
    """
    Puts the rules around the connector of a running engine, and takes them away.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: InprocessEngine) -> None:
        from vllm.distributed.kv_transfer import kv_transfer_state  # noqa: PLC0415 - after the environment
        from vllm.v1.core.block_pool import BlockPool  # noqa: PLC0415
        from vllm.v1.core.kv_cache_manager import KVCacheManager  # noqa: PLC0415

        self._scheduler, self._worker = engine.scheduler, kv_transfer_state
        self._wrapped = (engine.scheduler.connector, kv_transfer_state._KV_CONNECTOR_AGENT)
        bare = type(self._wrapped[0]).__mro__[2]
        assert wrap(bare) is type(self._wrapped[0])
        self._bare = tuple(bare(each._vllm_config, each.role, each._kv_cache_config) for each in self._wrapped)
        self._hooks = [
            (owner, name, getattr(owner, name))
            for owner, name in ((BlockPool, "cache_full_blocks"), (KVCacheManager, "get_computed_blocks"))
        ]

    def turn(self, *, on: bool) -> None:
        """On or off; no request may be in the engine."""
        scheduling, working = self._wrapped if on else self._bare
        self._scheduler.connector = scheduling
        self._worker._KV_CONNECTOR_AGENT = working
        for owner, name, method in self._hooks:
            setattr(owner, name, method if on else method.__wrapped__)


def run(engine: InprocessEngine, seed: int) -> tuple[float, float]:
    """Requests all at once; tokens a second of wall time, and of CPU time."""
    from vllm import SamplingParams  # noqa: PLC0415 - after the environment

    parameters = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True)
    for number, tokens in enumerate(prompts(AT_ONCE, 60, seed)):
        engine.engine.add_request(f"{seed}-{number}", {"prompt_token_ids": tokens}, parameters)
    wall, cpu = time.perf_counter(), time.process_time()
    engine.finish()
    total = AT_ONCE * TOKENS
    return total / (time.perf_counter() - wall), total / (time.process_time() - cpu)


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="pairs of runs")
    rounds = parser.parse_args().rounds
    books()
    settings = options()
    os.environ.update(settings.env)
    from vllm.config import KVTransferConfig  # noqa: PLC0415 - after the environment

    config = KVTransferConfig(
        kv_connector="IdleConnector",
        kv_connector_module_path="tests.vllm.backend.vllm.race_free.idle",
        kv_role="kv_both",
    )
    more: dict[str, Any] = {"kv_transfer_config": config, "num_gpu_blocks_override": 512, "disable_log_stats": True}
    with inprocess_engine(settings, enable_prefix_caching=True, **more) as engine:
        switch, dice = Switch(engine), random.Random(1)
        found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        run(engine, 0)
        for number in range(rounds):
            for on in dice.sample((True, False), 2):
                switch.turn(on=on)
                found[on].append(run(engine, 2 * number + on + 1))
        for what, unit in enumerate(("second", "CPU second")):
            with_, without = (statistics.median(each[what] for each in found[on]) for on in (True, False))
            pairs = [on[what] / off[what] - 1 for on, off in zip(found[True], found[False], strict=True)]
            cost = 100 * (1 - with_ / without)
            middle = -100 * statistics.median(pairs)
            print(
                f"tokens a {unit}: on {with_:.0f}, off {without:.0f}: cost {cost:.1f} %; median of pairs {middle:.1f} %"
            )


if __name__ == "__main__":
    main()
