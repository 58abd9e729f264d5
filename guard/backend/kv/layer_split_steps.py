"""
The order of LayerSplit's transfers: when a layer is sent, what the sending waits for, and who waits for it.

Per layer, on every rank: the layer's context goes from its owner into a scratch slot, this step's keys and values are
written (at the owner into its cache, elsewhere into the slot), and the layer is attended to. With prefetch the next
layer is on its way meanwhile. Three dependencies hold it together, and `ordering` gives them:

- a transfer waits for the earlier steps' writes of that layer at its owner (`cache` cell),
- the writes and the attention wait for the transfer (`slot` cell),
- a transfer waits for the last reader of its slot.

A step is a walk over all layers in order. A layer that is left out, repeated or attended to without its transfer is an
error at once: the peers would wait for ever, or read another layer's bytes (H11).

The device code asks before each operation what to wait for, and tells when one is over; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from guard.backend.kv.layer_split import SLOTS, LayerSplitError
from guard.backend.kv.ordering import Cell, EventId, Op, Ordering, Ticket
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.slots import ScratchSlots, StaleSlot


class OutOfOrder(LayerSplitError):
    """A layer came that is not the next one: a broadcast was skipped, or a step was broken off."""


class Stage(StrEnum):
    """Where a layer is in its step."""

    WAITING = "waiting"
    WRITTEN = "written"


class Transfer(msgspec.Struct, frozen=True):
    """
    A layer to send now.

    Args:
        layer: Its number.
        slot: The scratch slot it goes to, on every rank.
        ticket: What its sending waits for, and its own number.
    """

    layer: int
    slot: int
    ticket: Ticket


class StepSchedule:
    """
    The schedule of one rank; all ranks have the same.

    Args:
        layers: Split layers of the model.
        prefetch: Send a layer while the one before it is attended to.
        rules: Clauses in force; tests switch some off.
    """

    def __init__(self, layers: int, *, prefetch: bool = True, rules: Rules = ALL) -> None:
        self.layers = layers
        self.prefetch = prefetch
        self.step = -1
        self._ordering = Ordering(rules=rules)
        self._slots = ScratchSlots(self._ordering, layers, SLOTS, rules)
        self._next = layers
        self._stage = Stage.WAITING
        self._sent = layers

    def begin(self) -> list[Transfer]:
        """
        A step begins.

        Returns:
            What to send before its first layer.

        Raises:
            OutOfOrder: The step before it did not reach its last layer.
        """
        if self._next != self.layers:
            raise OutOfOrder(f"step {self.step} stopped before layer {self._next} of {self.layers}")
        self.step += 1
        self._next, self._sent, self._stage = 0, 0, Stage.WAITING
        return [self._send()]

    def write(self, layer: int, *, owned: bool) -> tuple[list[Transfer], Ticket]:
        """
        This step's keys and values of a layer are about to be written.

        Args:
            layer: Which.
            owned: Into this rank's cache; otherwise into the layer's scratch slot.

        Returns:
            What to send first, and what the writing waits for.

        Raises:
            OutOfOrder: It is not this layer's turn.
        """
        self._expect(layer, Stage.WAITING)
        self._stage = Stage.WRITTEN
        transfers = self._ahead()
        # The owner's row is read by the transfer, and its slot by nobody: it writes where the transfer has read.
        cell = _cache(layer) if owned else self._slots.cell(self.step, layer)
        return transfers, self._ordering.begin(Op.STEP, writes=(cell,))

    def attend(self, layer: int) -> Ticket:
        """
        A layer is about to be attended to.

        Returns:
            What that waits for.

        Raises:
            OutOfOrder: It is not this layer's turn, or its keys and values are not written yet.
            StaleSlot: Its transfer was never queued.
        """
        self._expect(layer, Stage.WRITTEN)
        ticket = self._slots.attend(self.step, layer)
        self._next, self._stage = layer + 1, Stage.WAITING
        return ticket

    def slot(self, layer: int) -> int:
        """The scratch slot of a layer in this step."""
        return self._slots.cell(self.step, layer).number

    def over(self, events: Iterable[EventId]) -> None:
        """Operations are known to be over."""
        for event in events:
            self._ordering.done(event)

    def _ahead(self) -> list[Transfer]:
        wanted = min(self._next + 1, self.layers - 1) if self.prefetch else self._next
        return [self._send() for _ in range(self._sent, wanted + 1)]

    def _send(self) -> Transfer:
        layer = self._sent
        try:
            ticket = self._slots.broadcast(self.step, layer, (_cache(layer),))
        except StaleSlot as stale:
            raise OutOfOrder(f"layer {layer} of step {self.step} cannot be sent yet: {stale}") from stale
        self._sent += 1
        return Transfer(layer, self.slot(layer), ticket)

    def _expect(self, layer: int, stage: Stage) -> None:
        if layer != self._next or stage is not self._stage:
            raise OutOfOrder(
                f"layer {layer} ({stage}) came in step {self.step}, expected layer {self._next} ({self._stage})"
            )


def _cache(layer: int) -> Cell:
    return Cell("block", 0, layer)
