"""
The connector: `kv_connector="HostTierConnector"`, `kv_connector_module_path="guard.backend.vllm.host.connector"`.

`kv_connector_extra_config`: `host_bytes`, host memory for each rank.

Every full block is saved when the step that completes it is over, and loaded when a prompt's prefix is in host memory
and not in vLLM's own cache any more. Loads run beside the forward pass that needs them, which waits layer by layer.
With `GUARD_VLLM_RACE_FREE=1` a withdrawn lineage leaves host memory too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import vllm
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)
from vllm.v1.metrics.stats import CacheHitSource

from guard.backend.kv.ids import Key
from guard.backend.vllm.host.books import HostBooks, Order
from guard.backend.vllm.host.support import HostTierError, draft_layers, slots_of
from guard.backend.vllm.host.worker import HostWorker
from guard.backend.vllm.race_free import lineage
from guard.backend.vllm.race_free.connector import VllmBlocks


class Orders(KVConnectorMetadata):  # type: ignore[misc]
    """
    A step's copies.

    Args:
        loads: Before its forward pass.
        saves: After it.
    """

    def __init__(self, loads: Sequence[Order], saves: Sequence[Order]) -> None:
        self.loads = tuple(loads)
        self.saves = tuple(saves)


class Reports(KVConnectorWorkerMetadata):  # type: ignore[misc]
    """
    Copies that are over.

    Args:
        done: On how many ranks, by number.
        failed: Those of them that were not made on some rank.
    """

    def __init__(self, done: Mapping[int, int], failed: Iterable[int]) -> None:
        self.done = dict(done)
        self.failed = frozenset(failed)

    def aggregate(self, other: Reports) -> Reports:
        """Those of both."""
        return Reports(Counter(self.done) + Counter(other.done), self.failed | other.failed)


class _Running:
    """
    One request, from its admission on.

    Args:
        request: vLLM's.
    """

    def __init__(self, request: Any) -> None:
        self.request = request
        #: Blocks of it that have been looked at.
        self.seen = 0
        self._keys: list[Key] = []

    def key(self, position: int) -> Key | None:
        """Key of one of its full blocks; of the one before the first, None."""
        for each in self.request.block_hashes[len(self._keys) : position + 1]:
            self._keys.append(Key(each.hex()))
        return self._keys[position] if position >= 0 else None


class HostTierConnector(KVConnectorBase_V1):  # type: ignore[misc]
    """
    See the module.

    Args:
        vllm_config: vLLM's configuration.
        role: Scheduler or worker.
        kv_cache_config: Groups and blocks.
    """

    _cache_hit_source = CacheHitSource.HOST

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._slots = slots_of(vllm_config, kv_cache_config, vllm.__version__)
        self._size: int = vllm_config.cache_config.block_size
        self._running: dict[str, _Running] = {}
        #: Waiting requests since their last look-up; `seen` is where the load would begin.
        self._looked_up: dict[str, _Running] = {}
        self._loads: list[Order] = []
        self._pool: Any = None
        self._books: HostBooks | None = None
        self._worker: HostWorker | None = None

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """A captured graph of the whole pass would replay without the waits (H8)."""
        return True

    @property
    def requires_kv_delivery(self) -> bool:
        """A save that is not made is a miss, no more."""
        return False

    @property
    def books(self) -> HostBooks:
        """The scheduler's side."""
        if self._books is None:
            raise RuntimeError("guard: this connector was never given vLLM's block pool (bind_gpu_block_pool)")
        return self._books

    @property
    def worker(self) -> HostWorker:
        """The worker's side."""
        if self._worker is None:
            raise RuntimeError("guard: this connector was never given vLLM's caches (register_kv_caches)")
        return self._worker

    # Scheduler side

    def bind_gpu_block_pool(self, gpu_block_pool: Any) -> None:
        """vLLM's pool: the books begin."""
        super().bind_gpu_block_pool(gpu_block_pool)
        self._pool = gpu_block_pool
        ranks = self._vllm_config.parallel_config.tensor_parallel_size
        self._books = HostBooks(VllmBlocks(gpu_block_pool), gpu_block_pool.num_gpu_blocks, self._slots, ranks=ranks)
        lineage.of(gpu_block_pool).listeners.append(self._withdrawn)

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        """What host memory has beyond vLLM's own cache; the last token of a prompt is always computed."""
        if request.skip_reading_prefix_cache:
            return 0, False
        running = _Running(request)
        first, last = num_computed_tokens // self._size, (request.num_tokens - 1) // self._size
        running.seen = first
        self._looked_up[request.request_id] = running
        keys = (running.key(each) for each in range(first, min(last, len(request.block_hashes))))
        return self.books.found(key for key in keys if key is not None) * self._size, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """The request is admitted; loads of what was found are queued, and hold their blocks and slots from here on."""
        name = request.request_id
        running = self._looked_up.pop(name, None) or _Running(request)
        first, running.seen = running.seen, 0
        self._running[name] = running
        for position in range(first, first + num_external_tokens // self._size):
            block = blocks.blocks[0][position].block_id
            key = running.key(position)
            if key is not None:
                self._loads.append(self.books.load(name, block, key, running.key(position - 1)))

    def build_connector_meta(self, scheduler_output: Any) -> Orders:
        """The step's loads, and saves of all blocks that are full when it is over and not in host memory yet."""
        loads, self._loads = self._loads, []
        saves: list[Order] = []
        for name, count in scheduler_output.num_scheduled_tokens.items():
            running = self._running[name]
            request = running.request
            # Draft tokens are not among a request's tokens: what the step writes for the others stays (S2).
            settled = min(request.num_computed_tokens + count, request.num_tokens)
            full = min(settled // self._size, len(request.block_hashes))
            if full > running.seen:
                saves += self._saves(running, name, full)
                running.seen = full
        return Orders(loads, saves)

    def update_connector_output(self, connector_output: Any) -> None:
        """Loads that failed, and copies that are over."""
        self.books.not_loaded(connector_output.invalid_block_ids)
        reports = connector_output.kv_connector_worker_meta
        if isinstance(reports, Reports):
            self.books.over(reports.done, reports.failed)

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, None]:
        """Copies that are under way hold their blocks themselves."""
        self._running.pop(request.request_id, None)
        self._looked_up.pop(request.request_id, None)
        return False, None

    def has_pending_push_work(self) -> bool:
        """vLLM goes on stepping, and so hears of the copies that are under way."""
        return bool(self.books.copying())

    def has_pending_block_frees(self) -> bool:
        """Whether a copy alone keeps some block, which comes back without a preemption (S4)."""
        return any(self._pool.blocks[block].ref_cnt == 1 for block in self.books.copying())

    def reset_cache(self) -> bool:
        """Forget all content: the weights are others, say."""
        self.books.clear()
        return True

    # Worker side

    def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
        """Allocate this rank's slots."""
        blocks = self._kv_cache_config.num_blocks
        if odd := [name for name, cache in kv_caches.items() if cache.shape[0] != blocks]:
            raise HostTierError(f"guard: the host tier does not work with kernel blocks of another size ({odd[0]})")
        self._worker = HostWorker(kv_caches, self._slots, draft_layers(self._vllm_config, kv_caches))

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """See HostWorker. Where there are loads vLLM calls this before the forward pass."""
        self.worker.load(self._get_connector_metadata().loads)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """See HostWorker."""
        self.worker.wait(layer_name)

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        """Saves begin when the whole pass is queued: a captured graph may not come by here."""

    def wait_for_save(self) -> None:
        """See HostWorker. The blocks are held until the scheduler's side hears of the end: nothing to wait for."""
        self.worker.save(self._get_connector_metadata().saves)

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Blocks whose content did not come."""
        return self.worker.invalid()

    def build_connector_worker_meta(self) -> Reports:
        """Copies that are over."""
        done, failed = self.worker.over()
        return Reports(dict.fromkeys(done, 1), failed)

    def shutdown(self) -> None:
        """Return when nothing is under way."""
        if self._worker is not None:
            self._worker.close()

    def _saves(self, running: _Running, name: str, full: int) -> list[Order]:
        blocks = self._kv_cache_manager.get_block_ids(name)[0]
        if lineage.of(self._pool).is_tainted(self._pool.blocks[block] for block in blocks[:full]):
            return []
        saves = []
        for position in range(running.seen, full):
            key = running.key(position)
            if key is not None and (order := self.books.save(name, blocks[position], key, running.key(position - 1))):
                saves.append(order)
        return saves

    def _withdrawn(self, hashes: Iterable[bytes]) -> None:
        self.books.withdraw([Key(each.hex()) for each in hashes])
