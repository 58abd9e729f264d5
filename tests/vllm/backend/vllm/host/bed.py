"""An engine whose cache is too small for what it is asked, with a tier of host memory; gates in place of sleeps."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import msgspec

from guard.backend.kv.integrity import check_integrity
from guard.backend.kv.rules import ALL, Rules
from guard.backend.testbed.engine import InprocessEngine, inprocess_engine
from guard.backend.testbed.tiny import ensure_tiny
from guard.backend.vllm.host.books import HostBooks
from guard.backend.vllm.race_free.connector import VllmBlocks
from tests.vllm.backend.vllm.push.bed import BLOCK_SIZE, SHAPE, options, prompts, switched

BLOCKS = 40
SLOTS = 200
LENGTH = 200
FULL = LENGTH // BLOCK_SIZE * BLOCK_SIZE
TOKENS = 16
_SECONDS = 60.0


class Bed:
    """
    The engine.

    Args:
        engine: In this process.
    """

    def __init__(self, engine: InprocessEngine) -> None:
        self.engine = engine
        self._count = 0
        self._fillers = 0

    @property
    def connector(self) -> Any:
        """The scheduler's side."""
        return self.engine.scheduler.connector

    @property
    def workers_connector(self) -> Any:
        """The worker's side."""
        from vllm.distributed.kv_transfer import get_kv_transfer_group  # noqa: PLC0415 - after the environment

        return get_kv_transfer_group()

    @property
    def books(self) -> HostBooks:
        found: HostBooks = self.connector.books
        return found

    def use(self, rules: Rules = ALL) -> None:
        """Begin new books, with these rules; vLLM's own cache is empty too."""
        assert self.settled()
        assert self.engine.scheduler.kv_cache_manager.reset_prefix_cache()
        pool = self.engine.scheduler.kv_cache_manager.block_pool
        self.connector._books = HostBooks(VllmBlocks(pool), pool.num_gpu_blocks, SLOTS, rules=rules)

    def add(self, tokens: list[int], *, withdraw: bool = False, max_tokens: int = TOKENS) -> str:
        from vllm import SamplingParams  # noqa: PLC0415 - after the environment

        self._count += 1
        extra = {"guard_withdraw": 1} if withdraw else None
        wanted = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, extra_args=extra)
        self.engine.engine.add_request(f"r{self._count}", {"prompt_token_ids": tokens}, wanted)
        return f"r{self._count}"

    def run(self, tokens: list[int], **arguments: Any) -> tuple[list[int], int]:
        """The answer, and how many tokens of the prompt were in one of the caches."""
        self.add(tokens, **arguments)
        last = self.engine.finish()[-1]
        return list(last.outputs[0].token_ids), last.num_cached_tokens

    def push_out(self, others: int = 7) -> None:
        """Other requests take all of vLLM's cache, or as much of it as so many need."""
        for tokens in prompts(others, LENGTH, 1000 + self._fillers):
            self.run(tokens, max_tokens=2)
        self._fillers += 1

    def forget(self) -> None:
        """Nothing is left in vLLM's own cache."""
        pool = self.engine.scheduler.kv_cache_manager.block_pool
        pool.evict_blocks({block.block_id for block in pool.blocks if block.block_hash is not None})

    def settled(self, steps: int = 5000) -> bool:
        """Step until nothing is copied and every block is free; whether it came to that."""
        for _ in range(steps):
            if not self.books.copying() and self.engine.free_blocks() == BLOCKS - 1:
                break
            self.engine.engine.step()
        check_integrity(self.books.device)
        check_integrity(self.books.tier.pool)
        return not self.books.copying() and self.engine.free_blocks() == BLOCKS - 1


def closed(transfer: Any) -> threading.Event:
    """Transfers of the timeline whose method this is stand still until the event is set."""
    gate = threading.Event()

    def wait() -> tuple[()]:
        if not gate.wait(_SECONDS):
            raise TimeoutError("nobody has opened the gate")
        return ()

    transfer((), wait)
    return gate


@contextlib.contextmanager
def bed(*, host: bool = True, blocks: int = BLOCKS, draft: bool = False) -> Iterator[Bed]:
    """The engine, ended afterwards; without a host tier it is the one that tells what is right."""
    settings = options()
    if draft:
        speculative = {"method": "draft_model", "model": str(ensure_tiny(SHAPE).draft), "num_speculative_tokens": 3}
        settings = msgspec.structs.replace(settings, speculative=speculative)
    made_of: dict[str, Any] = {
        "num_gpu_blocks_override": blocks,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    with switched(settings):
        if host:
            from vllm.config import KVTransferConfig  # noqa: PLC0415 - after the environment

            made_of["kv_transfer_config"] = KVTransferConfig(
                kv_connector="HostTierConnector",
                kv_connector_module_path="guard.backend.vllm.host.connector",
                kv_role="kv_both",
                kv_load_failure_policy="recompute",
                kv_connector_extra_config={"host_bytes": 64 << 20},
            )
        with inprocess_engine(settings, **made_of) as engine:
            yield Bed(engine)
