"""
LayerSplit's scratch slots: two, used in turn, into which the owner of a layer broadcasts it for the other ranks.

Logic only; the buffers and the collective are the device code's. What a slot holds is written down when a broadcast
into it is queued, so that a step cannot attend to a slot that holds something else:

- H10: the prefetch of layer L+1 starts before that layer's own load is done. The broadcast reads the layer's cells, and
  `ordering` makes it wait.
- H11: a broadcast is skipped without a word, and the peers attend to what the slot held before. `attend` refuses
  (`load_before_read`).
- H12: a slot is overwritten while its last reader runs. The broadcast writes the slot's cell, and waits for the reader.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from guard.backend.kv.ordering import Cell, Op, Ordering, Ticket
from guard.backend.kv.rules import ALL, Rules
from guard.errors import GuardError


class StaleSlot(GuardError):
    """A step was about to attend to a slot that does not hold its layer, or to overwrite one nobody attended to."""


class Content(NamedTuple):
    """What a slot holds: a layer, as it is in a step, and whether its reader is queued."""

    number: int
    attended: bool


class ScratchSlots:
    """
    The slots of one rank. Layers take them in turn, over the steps: layer L of step S is number S * layers + L.

    Args:
        ordering: Orders their use with everything else.
        layers: Layers of the model.
        count: How many slots there are.
        rules: Clauses in force.
    """

    def __init__(self, ordering: Ordering, layers: int, count: int = 2, rules: Rules = ALL) -> None:
        self._ordering = ordering
        self._layers = layers
        self._rules = rules
        self._held: list[Content | None] = [None] * count

    def cell(self, step: int, layer: int) -> Cell:
        """The slot of a layer in a step; steps are counted from 0 without a gap."""
        return Cell("slot", (step * self._layers + layer) % len(self._held))

    def broadcast(self, step: int, layer: int, source: Iterable[Cell]) -> Ticket:
        """
        Queue the broadcast of a layer into its slot.

        Args:
            step: The step it is for.
            layer: The layer.
            source: Its cells at the owner.

        Raises:
            StaleSlot: The slot holds a layer whose attention is not queued yet: the prefetch runs too far ahead.
        """
        cell = self.cell(step, layer)
        held = self._held[cell.number]
        if held is not None and not held.attended and self._rules.last_access_before_write:
            raise StaleSlot(f"slot {cell.number} holds number {held.number}, which nobody has attended to")
        self._held[cell.number] = Content(step * self._layers + layer, attended=False)
        return self._ordering.begin(Op.BROADCAST, reads=source, writes=(cell,))

    def attend(self, step: int, layer: int) -> Ticket:
        """
        Queue the attention of a layer, which reads its slot.

        Raises:
            StaleSlot: No broadcast of this layer for this step was queued. Queue it, or fail the step.
        """
        cell = self.cell(step, layer)
        number, held = step * self._layers + layer, self._held[cell.number]
        if self._rules.load_before_read and (held is None or held.number != number):
            raise StaleSlot(f"slot {cell.number} holds {held}, not layer {layer} of step {step}")
        self._held[cell.number] = Content(number, attended=True)
        return self._ordering.begin(Op.STEP, reads=(cell,))
