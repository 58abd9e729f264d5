"""
Scratch slots, and the tables that lead into them.

A slot holds one layer's blocks of one batch, packed: row i is the i-th block of the step's rows. A block table or slot
mapping of the cache is turned into one of the scratch by one look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch


class Scratch:
    """
    One slot.

    Args:
        like: A layer's cache; its first dimension counts blocks. The slot's rows are laid out as its blocks are.
        rows: Blocks it holds.
    """

    def __init__(self, like: torch.Tensor, rows: int) -> None:
        inner = sorted(range(1, like.dim()), key=lambda dim: -like.stride(dim))
        order = [0, *inner]
        packed = torch.zeros([rows, *(like.shape[dim] for dim in inner)], dtype=like.dtype, device=like.device)
        #: Shape: [rows, ...] as `like`; strides too, but for padding between blocks.
        self.blocks = packed.permute([order.index(dim) for dim in range(like.dim())])
        self._bytes = packed.view(rows, prod(packed.shape[1:])).view(torch.uint8)

    @property
    def nbytes(self) -> int:
        """Its size."""
        size: int = self._bytes.numel()
        return size

    def payload(self, rows: int) -> torch.Tensor:
        """The bytes of its first rows. Shape: [bytes]."""
        return self._bytes[:rows].reshape(-1)

    def gather(self, cache: torch.Tensor, blocks: torch.Tensor) -> None:
        """
        Copy blocks of a layer's cache to the first rows.

        Args:
            cache: Shape: [blocks, ...].
            blocks: Their numbers. Shape: [n].
        """
        target = self.blocks[: blocks.numel()]
        if target.is_contiguous():
            torch.index_select(cache, 0, blocks, out=target)
        else:
            target.copy_(cache[blocks])


def layer_bytes(cache: torch.Tensor) -> torch.Tensor | None:
    """
    A layer's cache as bytes, if its blocks lie packed as those of a slot do.

    Returns:
        Shape: [bytes]; None if there is anything between the blocks.
    """
    order = sorted(range(cache.dim()), key=lambda dim: -cache.stride(dim))
    packed = cache.permute(order)
    if order[0] != 0 or not packed.is_contiguous():
        return None
    return packed.view(-1).view(torch.uint8)


class RowMap:
    """
    From blocks of the cache to rows of the scratch, one step at a time.

    Args:
        blocks: Blocks of the cache.
        device: Where the tables are.
    """

    def __init__(self, blocks: int, device: torch.device) -> None:
        # Entries of other steps stay: they are rows too, and nothing reads what they lead to.
        self._row = torch.zeros(blocks, dtype=torch.int64, device=device)
        self._done: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def begin(self, blocks: Sequence[int]) -> torch.Tensor:
        """
        A step with these rows begins.

        Returns:
            The block numbers on the device. Shape: [rows].
        """
        self._done.clear()
        numbers = torch.tensor(blocks, dtype=torch.int64, device=self._row.device)
        self._row[numbers] = torch.arange(len(blocks), device=self._row.device)
        return numbers

    def table(self, table: torch.Tensor) -> torch.Tensor:
        """A block table, turned; once in a step for each tensor. Shape: as it is."""
        return self._once(table, lambda: self._row[table.long()].to(table.dtype))

    def slots(self, slots: torch.Tensor, block_size: int) -> torch.Tensor:
        """A slot mapping, turned; negative entries, which are padding, stay. Shape: as it is."""

        def turned() -> torch.Tensor:
            known = slots.clamp(min=0)
            moved = self._row[torch.div(known, block_size, rounding_mode="floor").long()] * block_size
            return torch.where(slots < 0, slots, (moved + known % block_size).to(slots.dtype))

        return self._once(slots, turned)

    def _once(self, tensor: torch.Tensor, turn: Callable[[], torch.Tensor]) -> torch.Tensor:
        known = self._done.get(id(tensor))
        if known is None:
            # The tensor itself is kept, so that no other gets its id during the step.
            known = self._done[id(tensor)] = (tensor, turn())
        return known[1]
