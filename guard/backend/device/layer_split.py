"""
LayerSplit on one rank: sends and receives the layers of a step, in the order that `layer_split_steps` gives.

Per step `begin`, then for each layer `write`, the engine's own cache update, `wrote`, `attend`, the engine's own
attention, `attended`. `write` and `attend` answer with the tensors to use instead of the cache's: those of the scratch
slot where another rank owns the layer.

The owner gathers into its own scratch slot and sends from there: no memory is needed that the plan does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import msgspec
import torch
import torch.distributed as dist

from guard.backend.device.scratch import RowMap, Scratch, layer_bytes
from guard.backend.device.timeline import Mark, Timeline
from guard.backend.kv.layer_split import SLOTS, LayerSplitError, Ownership, Rows, send_whole_layer
from guard.backend.kv.layer_split_steps import StepSchedule, Transfer
from guard.backend.kv.ordering import EventId, Ticket


class WrongLayer(LayerSplitError):
    """What arrived is not what was sent, or was sent for another layer or step."""


class Broadcasts(Protocol):
    """Sends bytes from one rank of the group to the others."""

    def send(self, payload: torch.Tensor, source: int) -> Any:
        """
        Start a broadcast.

        Args:
            payload: To be sent, or to be filled. Shape: [bytes].
            source: Rank in the group that has it.

        Returns:
            A handle with `wait` and `is_completed`.
        """


class GroupBroadcasts:
    """
    Broadcasts on a process group of their own.

    Args:
        group: The group.
        ranks: Its members' global ranks, in order.
    """

    def __init__(self, group: Any, ranks: Sequence[int]) -> None:
        self._group = group
        self._ranks = ranks

    def send(self, payload: torch.Tensor, source: int) -> Any:
        """See Broadcasts."""
        return dist.broadcast(payload, src=self._ranks[source], group=self._group, async_op=True)


def open_groups(groups: Sequence[Sequence[int]], backend: str, timeout_seconds: float) -> GroupBroadcasts:
    """
    Open a process group for each set of ranks, and answer with this process's.

    Every process of the world must call it, with the same arguments.

    Args:
        groups: Disjoint sets of global ranks; this process is in one of them.
        backend: `nccl` or `gloo`.
        timeout_seconds: A broadcast that takes longer has failed: a peer is gone, or left it out.

    Raises:
        LayerSplitError: This process is in none of them.
    """
    mine: GroupBroadcasts | None = None
    for ranks in groups:
        group = dist.new_group(list(ranks), backend=backend, timeout=timedelta(seconds=timeout_seconds))
        if dist.get_rank() in ranks:
            mine = GroupBroadcasts(group, ranks)
    if mine is None:
        raise LayerSplitError(f"rank {dist.get_rank()} is in none of the groups {groups}")
    return mine


def checksum(payload: torch.Tensor) -> torch.Tensor:
    """
    A sum that differs when bytes differ or lie elsewhere, but for chance.

    Args:
        payload: Shape: [bytes].

    Returns:
        Shape: [], int64.
    """
    words = payload.to(torch.int64) + 1
    weights = torch.arange(words.numel(), device=payload.device) % 8191 + 1
    return (words * weights).sum()


class Totals(msgspec.Struct):
    """What was moved since the start: steps, transfers, those of a whole layer, and bytes."""

    steps: int = 0
    transfers: int = 0
    whole: int = 0
    bytes: int = 0


class LayerSplit:
    """
    LayerSplit of one rank.

    Args:
        rank: Of this rank, in the group.
        ownership: Who keeps which layer.
        caches: The layers that this rank keeps, by number. Shape of each: [blocks, ...].
        scratch: The slots.
        blocks: Blocks of the cache.
        block_size: Rows of a block. Unit: tokens.
        schedule: The order; the same on all ranks.
        timeline: Of the device.
        broadcasts: Moves bytes.
        check: Verify every layer that arrives, at the cost of reading it once more on both sides.
        copy_cost: What gathering a byte costs, as a share of what sending it costs.
    """

    def __init__(
        self,
        *,
        rank: int,
        ownership: Ownership,
        caches: Mapping[int, torch.Tensor],
        scratch: Sequence[Scratch],
        blocks: int,
        block_size: int,
        schedule: StepSchedule,
        timeline: Timeline,
        broadcasts: Broadcasts,
        check: bool = False,
        copy_cost: float = 0.25,
    ) -> None:
        if sorted(caches) != list(ownership.layers_of(rank)) or len(scratch) != SLOTS:
            raise LayerSplitError(f"rank {rank} keeps layers {sorted(caches)} and has {len(scratch)} slots")
        self.device = device = scratch[0].blocks.device
        self.totals = Totals()
        self._rank, self._ownership, self._caches, self._scratch = rank, ownership, caches, scratch
        self._blocks, self._block_size, self._copy_cost, self._check = blocks, block_size, copy_cost, check
        self._schedule, self._timeline, self._broadcasts = schedule, timeline, broadcasts
        self._packed = all(layer_bytes(cache) is not None for cache in caches.values())
        self._map = RowMap(blocks, device)
        self._marks: dict[EventId, Mark] = {}
        self._headers: dict[int, torch.Tensor] = {}
        self._context = torch.empty(0, dtype=torch.int64, device=device)
        self._whole = False
        self._ready = timeline.mark()
        self._ticket: Ticket | None = None

    def owns(self, layer: int) -> bool:
        """Whether this rank keeps a layer."""
        return layer in self._caches

    def begin(self, rows: Rows) -> None:
        """
        A step begins; its first layer is sent.

        Args:
            rows: The blocks of its batch, the same on all ranks.

        Raises:
            LayerSplitError: They do not fit a scratch slot.
            OutOfOrder: The step before did not come to its end.
        """
        room = self._scratch[0].blocks.shape[0]
        if len(rows.blocks) > room:
            raise LayerSplitError(f"a step touches {len(rows.blocks)} blocks, a scratch slot has {room} rows")
        self._sweep()
        self._whole = self._packed and send_whole_layer(rows.context, self._blocks, room, copy_cost=self._copy_cost)
        self._context = self._map.begin(rows.blocks)[: rows.context]
        # The transfers read the numbers just made, on a stream of their own.
        self._ready = self._timeline.mark()
        self.totals.steps += 1
        self._send(self._schedule.begin())

    def write(self, layer: int, cache: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        This step's keys and values of a layer are about to be written.

        Args:
            layer: Which.
            cache: Where the engine would write; ignored where another rank owns the layer.
            slots: The engine's slot mapping. Shape: [tokens].

        Returns:
            Where to write, and the slots there.

        Raises:
            OutOfOrder: It is not this layer's turn.
            WrongLayer: Checked, and not what was sent.
        """
        transfers, self._ticket = self._schedule.write(layer, owned=self.owns(layer))
        self._send(transfers)
        self._wait(self._ticket)
        if self.owns(layer):
            return cache, slots
        if self._check:
            self._verify(layer)
        return self._slot(layer).blocks, slots if self._whole else self._map.slots(slots, self._block_size)

    def wrote(self) -> None:
        """They are written, or the writing is queued."""
        self._mark()

    def attend(self, layer: int, cache: torch.Tensor, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        A layer is about to be attended to.

        Args:
            layer: Which.
            cache: Where the engine would read; ignored where another rank owns the layer.
            table: The engine's block table. Shape: [requests, blocks].

        Returns:
            What to read, and the table for it.

        Raises:
            OutOfOrder: It is not this layer's turn.
            StaleSlot: Its transfer was never queued.
        """
        self._ticket = self._schedule.attend(layer)
        self._wait(self._ticket)
        if self.owns(layer):
            return cache, table
        return self._slot(layer).blocks, table if self._whole else self._map.table(table)

    def attended(self) -> None:
        """The attention is done, or queued."""
        self._mark()

    def _slot(self, layer: int) -> Scratch:
        return self._scratch[self._schedule.slot(layer)]

    def _send(self, transfers: Sequence[Transfer]) -> None:
        for each in transfers:
            after = [self._ready, *(self._marks[event] for event in each.ticket.waits)]
            mark = self._timeline.transfer(after, lambda each=each: self._start(each))  # type: ignore[misc]
            self._marks[each.ticket.event] = mark

    def _start(self, transfer: Transfer) -> list[Any]:
        count = self._context.numel()
        if not count and not self._check:
            return []
        source = self._ownership.owners[transfer.layer]
        payload = self._payload(transfer, self._scratch[transfer.slot], count)
        works = []
        if self._check:
            # A receiver's holds nothing that a header could hold: one that never came is seen.
            header = torch.full((4,), -1, dtype=torch.int64, device=payload.device)
            if self.owns(transfer.layer):
                header[:3] = torch.tensor([self._schedule.step, transfer.layer, payload.numel()])
                header[3] = checksum(payload)
            works.append(self._broadcasts.send(header.view(torch.uint8), source))
            if not self.owns(transfer.layer):
                self._headers[transfer.layer] = header
        if count:
            works.append(self._broadcasts.send(payload, source))
            self.totals.transfers += 1
            self.totals.whole += self._whole
            self.totals.bytes += payload.numel()
        return works

    def _payload(self, transfer: Transfer, slot: Scratch, count: int) -> torch.Tensor:
        cache = self._caches.get(transfer.layer)
        if self._whole:
            whole = None if cache is None else layer_bytes(cache)
            return slot.payload(self._blocks) if whole is None else whole
        if cache is not None:
            slot.gather(cache, self._context)
        return slot.payload(count)

    def _verify(self, layer: int) -> None:
        step, sent_layer, size, total = self._headers.pop(layer).tolist()
        payload = self._slot(layer).payload(self._blocks if self._whole else self._context.numel())
        if (step, sent_layer, size) != (self._schedule.step, layer, payload.numel()):
            raise WrongLayer(
                f"rank {self._rank} in step {self._schedule.step} expected {payload.numel()} bytes of layer {layer}; "
                f"its owner sent {size} of layer {sent_layer} in step {step}"
            )
        if int(checksum(payload)) != total:
            raise WrongLayer(f"layer {layer} of step {step} came to rank {self._rank} with another checksum")

    def _wait(self, ticket: Ticket) -> None:
        self._timeline.wait([self._marks[event] for event in ticket.waits])

    def _mark(self) -> None:
        assert self._ticket is not None
        self._marks[self._ticket.event] = self._timeline.mark()

    def _sweep(self) -> None:
        """Forget operations that are over, so that nothing is waited for that has long happened."""
        over = [event for event, mark in self._marks.items() if mark.passed()]
        for event in over:
            del self._marks[event]
        self._schedule.over(over)
