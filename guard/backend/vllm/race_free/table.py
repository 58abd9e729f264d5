"""What the race-free cache patches in each release line of vLLM, and what it relies on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from guard.backend.vllm.releases import Hook

_SCHEDULER = "vllm.v1.core.sched.scheduler"
_POOL = "vllm.v1.core.block_pool"
_FACTORY = "vllm.distributed.kv_transfer.kv_connector.factory"
_BASE = "vllm.distributed.kv_transfer.kv_connector.v1.base"
_WORKER = "vllm.v1.worker.kv_connector_model_runner_mixin"

_COMMON: Mapping[str, Hook] = {
    "factory.connector_class": Hook(
        _FACTORY,
        "KVConnectorFactory",
        "get_connector_class",
        ("cls", "kv_transfer_config"),
        ("connector_name = kv_transfer_config.kv_connector", "return connector_cls"),
    ),
    "factory.create": Hook(
        _FACTORY,
        "KVConnectorFactory",
        "create_connector",
        ("cls", "config", "role", "kv_cache_config"),
        ("connector_cls = cls.get_connector_class(", "return connector_cls(config, role, kv_cache_config)"),
        patched=False,
    ),
    # A reference of our own keeps a block out of the free queue, whoever lets go of it.
    "pool.touch": Hook(
        _POOL,
        "BlockPool",
        "touch",
        ("self", "blocks"),
        ("if block.ref_cnt == 0 and (not block.is_null):", "block.ref_cnt += 1"),
        patched=False,
    ),
    "pool.free": Hook(
        _POOL,
        "BlockPool",
        "free_blocks",
        ("self", "ordered_blocks"),
        ("block.ref_cnt -= 1", "if block.ref_cnt == 0 and (not block.is_null):"),
        patched=False,
    ),
    # And what is given out anew is not withdrawn content any more.
    "pool.allocate": Hook(
        _POOL,
        "BlockPool",
        "get_new_blocks",
        ("self", "num_blocks"),
        ("self.free_block_queue.popleft_n(",),
    ),
    # Withdrawal of a lineage.
    "pool.publish": Hook(
        _POOL,
        "BlockPool",
        "cache_full_blocks",
        (
            "self",
            "request",
            "blocks",
            "num_cached_blocks",
            "num_full_blocks",
            "block_size",
            "kv_cache_group_id",
            "block_mask",
        ),
        ("resolve_block_hashes(request.block_hashes, self.hash_block_size, block_size)",),
    ),
    "manager.lookup": Hook(
        "vllm.v1.core.kv_cache_manager",
        "KVCacheManager",
        "get_computed_blocks",
        ("self", "request"),
        ("self.coordinator.find_longest_cache_hit(request.block_hashes, ",),
    ),
    # The connector hears of every allocation that a load writes, and of every end.
    "scheduler.schedule": Hook(
        _SCHEDULER,
        "Scheduler",
        "schedule",
        (),
        (
            "self.connector.get_num_new_matched_tokens(request, ",
            "self.connector.update_state_after_alloc(request, self.kv_cache_manager.get_blocks(request_id), ",
            "request.status = RequestStatus.WAITING_FOR_REMOTE_KVS",
            "delay_cache_blocks=load_kv_async",
        ),
        patched=False,
    ),
    "scheduler.finish": Hook(
        _SCHEDULER,
        "Scheduler",
        "finish_requests",
        ("self", "request_ids", "finished_status"),
        ("delay_free_blocks = request.request_id not in self.finished_recving_kv_req_ids",),
        patched=False,
    ),
    "scheduler.free": Hook(
        _SCHEDULER,
        "Scheduler",
        "_free_request",
        ("self", "request", "delay_free_blocks"),
        ("self._connector_finished(request)", "if not delay_free_blocks:"),
        patched=False,
    ),
    # Notices pass through the connector before the scheduler acts on them, and it may take some out.
    "scheduler.notices": Hook(
        _SCHEDULER,
        "Scheduler",
        "_update_from_kv_xfer_finished",
        ("self", "kv_connector_output"),
        (
            "self.connector.update_connector_output(kv_connector_output)",
            "for req_id in kv_connector_output.finished_recving or ():",
            "for req_id in kv_connector_output.finished_sending or ():",
        ),
        patched=False,
    ),
    "scheduler.failures": Hook(
        _SCHEDULER,
        "Scheduler",
        "_handle_failed_recving",
        ("self", "failed_req_ids"),
        ("request.num_computed_tokens = 0", "self.failed_recving_kv_req_ids.add(req_id)"),
        patched=False,
    ),
    # Steps in flight (rule 6) are vLLM's own business where it can overlap them.
    "scheduler.fence": Hook(
        _SCHEDULER,
        "Scheduler",
        "_free_request_blocks",
        ("self", "request"),
        ("self.deferred_frees.append(",),
        patched=False,
    ),
    "scheduler.stepping": Hook(
        _SCHEDULER, "Scheduler", "has_requests", ("self",), ("self.connector.has_pending_push_work()",), patched=False
    ),
    "worker.step": Hook(
        _WORKER,
        "KVConnectorModelRunnerMixin",
        "_get_kv_connector_output",
        ("scheduler_output", "defer_finalize"),
        (
            "kv_connector.start_load_kv(get_forward_context())",
            "kv_connector.get_transfer_results(",
            "output.failed_recving = transfer_results.failed_recving",
            "output.kv_connector_worker_meta = kv_connector.build_connector_worker_meta()",
        ),
        patched=False,
    ),
    "base.pool": Hook(
        _BASE,
        "KVConnectorBase_V1",
        "bind_kv_cache_manager",
        ("self", "kv_cache_manager"),
        ("self.bind_gpu_block_pool(kv_cache_manager.block_pool)",),
        patched=False,
    ),
}

#: By release line; in each, the hooks by name. 0.33 is not here: there a load can be put off after its blocks are
#: allocated, and a request aborted meanwhile waits for no notice; the connector would have to learn which.
RELEASES: Final[Mapping[str, Mapping[str, Hook]]] = {"0.32": _COMMON}
