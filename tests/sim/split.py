"""
The world of LayerSplit at a rank that owns no layer: each layer is loaded at its owner, broadcast into a scratch slot
in turn, attended to and forgotten.

Events: broadcast L, skip L (a fault: it is not queued, and nobody is told), attend L, run.
"""

from __future__ import annotations

from typing import Any

from guard.backend.kv.ordering import Cell, Op
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.slots import ScratchSlots, StaleSlot
from tests.sim.device import Device
from tests.sim.world import Event


class Split(Device):
    """
    See the module.

    Args:
        layers: Layers of the model.
        steps: Steps, one after the other, each through all layers.
        loading: Each layer's block is loaded from the host first.
        rules: Clauses in force.
        budgets: skip.
    """

    def __init__(
        self, layers: int = 3, *, steps: int = 1, loading: bool = False, rules: Rules = ALL, **budgets: int
    ) -> None:
        super().__init__(rules=rules, **budgets)
        self.slots = ScratchSlots(self.ordering, layers, rules=rules)
        self.layers, self.steps = layers, steps
        #: (step, layer) pairs, counted through: next broadcast, next attention.
        self.sent = self.attended = 0
        for layer in range(layers):
            cell = Cell("block", 0, layer)
            if loading:
                self.push(self.ordering.begin(Op.LOAD, writes=(cell,)), "load", layer)
            else:
                self.memory["owner", layer] = f"layer {layer}"

    def enabled(self) -> list[Event]:
        """What may happen next. A broadcast is at most two layers ahead of the attention."""
        if self.is_dead():
            return []
        events = self.device_events()
        total = self.layers * self.steps
        if self.sent < total and self.sent < self.attended + 2:
            events.append(("broadcast",))
            if self.left("skip"):
                events.append(("skip",))
        if self.attended < self.sent:
            events.append(("attend",))
        return events

    def fair(self, event: Event) -> bool:
        """A broadcast need not be skipped."""
        return event[0] != "skip"

    def on_broadcast(self) -> None:
        self._broadcast(self.sent)
        self.sent += 1

    def on_skip(self) -> None:
        self.spend("skip")
        self.sent += 1

    def on_attend(self) -> None:
        step, layer = divmod(self.attended, self.layers)
        try:
            ticket = self.slots.attend(step, layer)
        except StaleSlot:
            self._broadcast(self.attended)  # told, the engine makes up for it
            ticket = self.slots.attend(step, layer)
        self.push(ticket, "attend", step, layer)
        self.attended += 1

    def _broadcast(self, number: int) -> None:
        step, layer = divmod(number, self.layers)
        ticket = self.slots.broadcast(step, layer, (Cell("block", 0, layer),))
        self.push(ticket, "broadcast", step, layer)

    def run_load(self, rank: int, layer: int) -> None:
        """The layer's block comes from the host."""
        self.memory["owner", layer] = f"layer {layer}"

    def run_broadcast(self, rank: int, step: int, layer: int) -> None:
        """The owner's layer comes into its slot."""
        found = self.memory.get(("owner", layer))
        self.memory["slot", self.slots.cell(step, layer).number] = (step, found)

    def run_attend(self, rank: int, step: int, layer: int) -> None:
        """The attention reads the slot."""
        found = self.memory.get(("slot", self.slots.cell(step, layer).number))
        if found != (step, f"layer {layer}"):
            self.fault("wrong bytes", f"step {step}, layer {layer}: the slot holds {found}")

    def good(self) -> bool:
        """All layers of all steps are through."""
        return not self.queue and self.attended == self.layers * self.steps

    def key(self) -> Any:
        """The state."""
        return self.sent, self.attended, tuple(self.slots._held), self.device_key()
