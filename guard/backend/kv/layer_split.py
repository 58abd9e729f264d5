"""
LayerSplit's arithmetic: which rank keeps which layer, how many blocks fit, which blocks a step moves.

Ranks that would all keep the same KV divide the layers between them. Each keeps its own layers for all blocks, and has
two scratch slots for the layer that is being attended to and the one after it. A scratch slot needs no more rows than
one step can touch, so a deployment that bounds its batch (`max_num_seqs` x `max_model_len`) bounds its scratch too, and
the rest of the memory is cache.

Plain Python. `layer_split_steps` has the order of transfers, `layer_split_cost` what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from guard.errors import GuardError

#: Scratch slots of a rank: the layer attended to, and the one that is on its way.
SLOTS: Final = 2


class LayerSplitError(GuardError):
    """LayerSplit cannot be set up like this, or ranks do not agree on it."""


class Ownership(msgspec.Struct, frozen=True):
    """
    Who keeps which layer.

    Args:
        owners: Rank (within the group that would replicate) of each split layer, in model order.
        ranks: Ranks in the group.
    """

    owners: tuple[int, ...]
    ranks: int

    def layers_of(self, rank: int) -> range:
        """The layers that a rank keeps; they are contiguous."""
        first = self.owners.index(rank)
        return range(first, first + self.owners.count(rank))


def divide(layers: int, ranks: int) -> Ownership:
    """
    Divide the layers into contiguous parts whose sizes differ by at most one.

    Args:
        layers: Layers to divide, at least one a rank.
        ranks: Ranks that would replicate them.

    Raises:
        LayerSplitError: There is nothing to divide, or a rank would get no layer.
    """
    if ranks < 2:
        raise LayerSplitError(f"LayerSplit needs at least two ranks that keep the same KV; here there is {ranks}")
    if layers < ranks:
        raise LayerSplitError(f"{layers} layers cannot be divided over {ranks} ranks: each needs one")
    return Ownership(tuple(layer * ranks // layers for layer in range(layers)), ranks)


def replica_group(rank: int, ranks: int, kv_heads: int) -> range:
    """
    The tensor-parallel ranks that keep the same KV heads as this one.

    Args:
        rank: Of the tensor-parallel group.
        ranks: Of that group.
        kv_heads: KV heads of the whole model; heads are dealt out in runs of consecutive ranks.

    Raises:
        LayerSplitError: Every rank has heads of its own, or the heads do not divide the ranks.
    """
    if kv_heads >= ranks:
        raise LayerSplitError(
            f"each of the {ranks} ranks has KV heads of its own ({kv_heads} in all): nothing is kept twice"
        )
    if ranks % kv_heads:
        raise LayerSplitError(f"{kv_heads} KV heads over {ranks} ranks are not kept equally often")
    size = ranks // kv_heads
    first = rank - rank % size
    return range(first, first + size)


class MemoryPlan(msgspec.Struct, frozen=True):
    """
    How a rank's KV memory is used.

    Args:
        blocks: Cache blocks.
        scratch_blocks: Rows of each scratch slot.
        kept_bytes: What one block takes on this rank: owned and draft layers.
        largest_bytes: What one block takes in the largest split layer.
    """

    blocks: int
    scratch_blocks: int
    kept_bytes: int
    largest_bytes: int

    @property
    def cache_bytes(self) -> int:
        """Of the cache."""
        return self.blocks * self.kept_bytes

    @property
    def scratch_bytes(self) -> int:
        """Of the scratch slots."""
        return SLOTS * self.scratch_blocks * self.largest_bytes

    @property
    def total_bytes(self) -> int:
        """Of both; never more than was given."""
        return self.cache_bytes + self.scratch_bytes


def plan_memory(
    memory: int, *, owned: Sequence[int], draft: Sequence[int], largest: int, step_blocks: int
) -> MemoryPlan:
    """
    The most blocks that fit.

    With scratch as large as the cache: floor(memory / (owned + draft + 2 x largest)). A step that can never touch that
    many blocks needs less scratch, and the cache gets the rest.

    Args:
        memory: For cache and scratch. Unit: bytes.
        owned: One block of each split layer this rank keeps. Unit: bytes.
        draft: One block of each draft layer; all ranks keep all of them. Unit: bytes.
        largest: One block of the largest split layer, of any rank. Unit: bytes.
        step_blocks: The most blocks that one step can touch, the null block included.

    Raises:
        LayerSplitError: Not even one block fits, or a size makes no sense.
    """
    kept = sum(owned) + sum(draft)
    if min(kept, largest, step_blocks) <= 0:
        raise LayerSplitError(f"sizes must be positive: kept {kept}, largest {largest}, step_blocks {step_blocks}")
    blocks = memory // (kept + SLOTS * largest)
    if blocks >= step_blocks:
        blocks = (memory - SLOTS * step_blocks * largest) // kept
    if blocks < 1:
        raise LayerSplitError(
            f"{memory} bytes hold no block: one takes {kept} in the cache and {SLOTS * largest} in the scratch slots"
        )
    return MemoryPlan(blocks, min(blocks, step_blocks), kept, largest)


def blocks_of_a_step(max_num_seqs: int, max_model_len: int, lookahead: int, block_size: int) -> int:
    """
    The most blocks that one step can touch.

    Args:
        max_num_seqs: Most requests in a step.
        max_model_len: Longest sequence. Unit: tokens.
        lookahead: Rows a draft may write beyond it. Unit: tokens.
        block_size: Rows of a block. Unit: tokens.

    Returns:
        Their number, the null block that padding points to included.
    """
    return max_num_seqs * -(-(max_model_len + lookahead) // block_size) + 1


class Rows(msgspec.Struct, frozen=True):
    """
    Which blocks a step uses, in the order in which they lie in a scratch slot.

    Args:
        blocks: Block ids, each once: first those that hold something from earlier steps, then the others.
        context: How many of them are of the first kind: only these are sent.
    """

    blocks: tuple[int, ...]
    context: int


def rows_of(tables: Sequence[Sequence[int]], computed: Sequence[int], lengths: Sequence[int], block_size: int) -> Rows:
    """
    The blocks of a batch, without repetition: requests that share a prefix share its rows.

    Args:
        tables: Block ids of each request, at least as many as its length needs.
        computed: Tokens of each request that earlier steps have written.
        lengths: Tokens of each request when this step is over.
        block_size: Rows of a block. Unit: tokens.
    """
    context: dict[int, None] = {}
    fresh: dict[int, None] = {}
    for table, done, length in zip(tables, computed, lengths, strict=True):
        border = -(-done // block_size)
        context.update(dict.fromkeys(table[:border]))
        fresh.update(dict.fromkeys(table[border : -(-length // block_size)]))
    rest = [block for block in fresh if block not in context]
    return Rows((*context, *rest), len(context))


def send_whole_layer(context: int, blocks: int, scratch_blocks: int, *, copy_cost: float) -> bool:
    """
    Whether to send the whole layer as it lies, rather than to gather the context first.

    Args:
        context: Blocks to be sent.
        blocks: Blocks of the layer.
        scratch_blocks: Rows of a scratch slot; it must hold the whole layer.
        copy_cost: What gathering a byte costs, as a share of what sending it costs.
    """
    return context > 0 and scratch_blocks >= blocks and blocks < context * (1 + copy_cost)
