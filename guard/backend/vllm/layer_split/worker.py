"""
LayerSplit in vLLM's workers: which layers a rank tells the engine of, its memory, and the way of a step.

The engine is told of the layers that this rank keeps, and of as much memory as they may use; it then plans as it does
for pipeline stages, and knows nothing of LayerSplit. The other layers are put back on the worker's side, bound to the
scratch slots, so that vLLM builds metadata for all of them.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from typing import Any, Final

import torch
import torch.distributed as dist

from guard.backend.device.layer_split import LayerSplit, open_groups
from guard.backend.device.scratch import Scratch
from guard.backend.device.timeline import timeline_of
from guard.backend.kv.layer_split import (
    SLOTS,
    LayerSplitError,
    MemoryPlan,
    Ownership,
    blocks_of_a_step,
    divide,
    plan_memory,
    replica_group,
    rows_of,
)
from guard.backend.kv.layer_split_steps import StepSchedule
from guard.backend.vllm.layer_split.fatal import fatal
from guard.backend.vllm.layer_split.layers import wrap
from guard.backend.vllm.layer_split.settings import Settings, settings
from guard.backend.vllm.layer_split.support import agree, config_reasons, connector_reasons, layer_reasons, refuse

_log = logging.getLogger("vllm.plugins.guard")
_ATTRIBUTE: Final = "guard_layer_split"


class WorkerSplit:
    """
    LayerSplit of one worker.

    Args:
        runner: vLLM's model runner.
        specs: KV cache spec of every layer, as vLLM found them.
        wanted: The switches.

    Raises:
        LayerSplitError: Something here is not supported, or the ranks do not agree.
    """

    def __init__(self, runner: Any, specs: dict[str, Any], wanted: Settings) -> None:
        from vllm.distributed.parallel_state import get_tp_group  # noqa: PLC0415

        config = runner.vllm_config
        context = config.compilation_config.static_forward_context
        reasons = config_reasons(config) + connector_reasons(config.kv_transfer_config, _connector_of(config))
        refuse(reasons + layer_reasons(specs, context, runner.shared_kv_cache_layers))
        modules = {id(module) for module in runner.get_model().modules()}
        self.specs = specs
        self.layers = [name for name in specs if id(context[name]) in modules]
        self._drafts = [name for name in specs if name not in set(self.layers)]
        self._wanted, self._config, self._group = wanted, config, get_tp_group()
        heads = config.model_config.get_total_num_kv_heads()
        ranks = self._group.world_size
        members = replica_group(self._group.rank_in_group, ranks, heads)
        self.ownership: Ownership = divide(len(self.layers), len(members))
        self.rank = self._group.rank_in_group - members.start
        self._groups = [
            [self._group.ranks[each] for each in range(first, first + len(members))]
            for first in range(0, ranks, len(members))
        ]
        self.block_size: int = next(iter(specs.values())).block_size
        self.step_blocks = blocks_of_a_step(
            config.scheduler_config.max_num_seqs,
            config.model_config.max_model_len,
            getattr(config, "num_speculative_tokens", 0) or 0,
            self.block_size,
        )
        self.device: LayerSplit | None = None
        self._agree(
            "the layers",
            switches=wanted,
            layers=[(name, repr(specs[name])) for name in self.layers],
            drafts=sorted(self._drafts),
            owners=self.ownership.owners,
            step_blocks=self.step_blocks,
        )

    def kept(self) -> dict[str, Any]:
        """The specs of what this rank keeps: its layers, and all draft layers."""
        mine = {self.layers[layer] for layer in self.ownership.layers_of(self.rank)} | set(self._drafts)
        return {name: spec for name, spec in self.specs.items() if name in mine}

    def tell(self, connector: Any) -> None:
        """A KV connector is about to see this rank's caches: which layers are here, and which nowhere else."""
        kept = frozenset(self.kept())
        connector.guard_kept, connector.guard_owned = kept, kept - set(self._drafts)

    def plan(self, memory: int) -> MemoryPlan:
        """
        Divide this rank's memory between the cache and the scratch slots.

        Args:
            memory: Unit: bytes.

        Raises:
            LayerSplitError: It holds no block.
        """
        page = {name: spec.page_size_bytes for name, spec in self.specs.items()}
        plan = plan_memory(
            memory,
            owned=[page[self.layers[layer]] for layer in self.ownership.layers_of(self.rank)],
            draft=[page[name] for name in self._drafts],
            largest=max(page[name] for name in self.layers),
            step_blocks=self.step_blocks,
        )
        whole = memory // sum(page.values())
        _log.info(
            "guard: LayerSplit, rank %d of %d keeps layers %s of %d (and %d draft layers): %d blocks, %d unsplit; "
            "two scratch slots of %d blocks, %.1f MiB",
            self.rank,
            self.ownership.ranks,
            f"{self.ownership.layers_of(self.rank).start}-{self.ownership.layers_of(self.rank).stop - 1}",
            len(self.layers),
            len(self._drafts),
            plan.blocks,
            whole,
            plan.scratch_blocks,
            plan.scratch_bytes / 2**20,
        )
        return plan

    def completed(self, kv_cache_config: Any) -> Any:
        """
        The engine's configuration for this rank, with the layers that other ranks keep.

        Args:
            kv_cache_config: A `KVCacheConfig`; it is not changed.
        """
        if len(kv_cache_config.kv_cache_groups) != 1:
            raise LayerSplitError(f"{len(kv_cache_config.kv_cache_groups)} KV cache groups; LayerSplit works with one")
        whole = copy.deepcopy(kv_cache_config)
        whole.kv_cache_groups[0].layer_names = list(self.specs)
        return whole

    def attach(self, blocks: int, device: torch.device) -> None:
        """
        The cache is allocated: allocate the scratch slots, open the process group and take over the layers.

        Args:
            blocks: Blocks of the cache.
            device: Where it is.

        Raises:
            LayerSplitError: The cache is not laid out as expected, or the ranks do not agree.
        """
        context = self._config.compilation_config.static_forward_context
        caches = {layer: context[self.layers[layer]].kv_cache for layer in self.ownership.layers_of(self.rank)}
        like = caches[self.ownership.layers_of(self.rank).start]
        if like.shape[0] != blocks:
            raise LayerSplitError(f"a layer's cache has {like.shape[0]} blocks of its kernel's size, not {blocks}")
        rows = min(blocks, self.step_blocks)
        scratch = [Scratch(like, rows) for _ in range(SLOTS)]
        self._agree(
            "the cache",
            blocks=blocks,
            rows=rows,
            shape=tuple(like.shape[1:]),
            strides=like.stride()[1:],
            dtype=like.dtype,
        )
        self.device = LayerSplit(
            rank=self.rank,
            ownership=self.ownership,
            caches=caches,
            scratch=scratch,
            blocks=blocks,
            block_size=self.block_size,
            schedule=StepSchedule(len(self.layers), prefetch=self._wanted.prefetch),
            timeline=timeline_of(device),
            broadcasts=open_groups(
                self._groups, dist.get_backend(self._group.device_group), self._wanted.timeout_seconds
            ),
            check=self._wanted.check,
        )
        for number, name in enumerate(self.layers):
            layer = context[name]
            if not self.device.owns(number):
                layer.kv_cache = scratch[0].blocks
            wrap(layer.impl, number, self.device)

    def begin(self, batch: Any, requests: int, scheduled: dict[str, int]) -> None:
        """
        A step is about to run.

        Args:
            batch: vLLM's input batch.
            requests: How many of its rows run.
            scheduled: Tokens of each request in this step.
        """
        if self.device is None:
            return
        computed = batch.num_computed_tokens_cpu[:requests].tolist()
        lengths = [done + scheduled[name] for done, name in zip(computed, batch.req_ids[:requests], strict=True)]
        table = batch.block_table[0].get_numpy_array()
        tables = [table[row, : -(-length // self.block_size)].tolist() for row, length in enumerate(lengths)]
        self.device.begin(rows_of(tables, computed, lengths, self.block_size))

    def _agree(self, what: str, **facts: Any) -> None:
        told: list[Any] = [None] * self._group.world_size
        dist.all_gather_object(told, {name: repr(fact) for name, fact in facts.items()}, group=self._group.cpu_group)
        agree(what, told)


def _connector_of(config: Any) -> Any:
    """The class of the configured KV connector; None where there is none."""
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory  # noqa: PLC0415

    transfer = config.kv_transfer_config
    return None if transfer is None else KVConnectorFactory.get_connector_class(transfer)


def _connector() -> Any:
    """This worker's KV connector."""
    from vllm.distributed.kv_transfer import get_kv_transfer_group  # noqa: PLC0415

    return get_kv_transfer_group()


def split_of(runner: Any) -> WorkerSplit | None:
    """LayerSplit of a model runner; None where it is off."""
    found: WorkerSplit | None = runner.__dict__.get(_ATTRIBUTE)
    return found


def get_kv_cache_spec(original: Callable[..., Any]) -> Callable[..., Any]:
    """Tell the engine of this rank's layers only."""

    def replacement(self: Any) -> Any:
        specs = original(self)
        wanted = settings(os.environ)
        if wanted is None:
            return specs
        split = split_of(self)
        if split is None:
            split = self.__dict__[_ATTRIBUTE] = WorkerSplit(self, specs, wanted)
        return split.kept()

    return replacement


def determine_available_memory(original: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the scratch slots' memory back."""

    def replacement(self: Any) -> Any:
        memory = original(self)
        split = split_of(self.model_runner)
        return memory if split is None else split.plan(memory).cache_bytes

    return replacement


def initialize_kv_cache(original: Callable[..., Any]) -> Callable[..., Any]:
    """Put the other ranks' layers back, and take over all layers."""

    def replacement(self: Any, kv_cache_config: Any, *rest: Any, **named: Any) -> Any:
        split = split_of(self)
        if split is None:
            return original(self, kv_cache_config, *rest, **named)
        if self.vllm_config.kv_transfer_config is not None:
            split.tell(_connector())
        done = original(self, split.completed(kv_cache_config), *rest, **named)
        split.attach(kv_cache_config.num_blocks, self.device)
        return done

    return replacement


def build_attention_metadata(original: Callable[..., Any]) -> Callable[..., Any]:
    """Begin the step's transfers; dummy runs, which have no scheduled tokens, have none."""

    def replacement(self: Any, *arguments: Any, **named: Any) -> Any:
        built = original(self, *arguments, **named)
        split = split_of(self)
        scheduled = named.get("num_scheduled_tokens")
        if split is not None and scheduled:
            fatal(split.begin)(self.input_batch, named["num_reqs"], scheduled)
        return built

    return replacement
