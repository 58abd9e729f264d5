"""
A worker's side of the host tier: the copies, in the order of rule 7.

Saves and loads have a timeline each, so that no load waits for a queue of saves. What orders the two against each
other are the scheduler's leases; here they are ordered against the forward passes:

- a save starts after the mark at the end of the step that writes its block (H3);
- a load starts after the mark of all compute work queued before it: earlier steps that use the block it writes, and
  the zeroing of fresh blocks (H2, H4, H5);
- a layer is attended to after its load (H1); a pass that does not wait for a layer is found out (H8), and its blocks
  are reported as invalid. A draft's layers are waited for too, but vLLM leaves the draft out of a step in which there
  is no room for its tokens; and what a draft reads decides no token.

A slot knows which save filled it. A load that wants another generation is not made, and its block is reported.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from guard.backend.device.timeline import Mark, side_of
from guard.backend.vllm.host.books import Order

_log = logging.getLogger("vllm.plugins.guard")


def runs(pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """
    Copies of single blocks, joined where both sides are neighbours.

    Args:
        pairs: Of each copy, where from and where to.

    Yields:
        Where from, where to, how many.
    """
    start: tuple[int, int] | None = None
    count = 0
    for source, target in pairs:
        if start is not None and (source, target) == (start[0] + count, start[1] + count):
            count += 1
            continue
        if start is not None:
            yield *start, count
        start, count = (source, target), 1
    if start is not None:
        yield *start, count


def copy_rows(target: Any, source: Any, pairs: Sequence[tuple[int, int]]) -> tuple[()]:
    """
    Queue the copies of one layer.

    Args:
        target: Tensor, blocks or slots first.
        source: The same of the other side.
        pairs: Of each copy, where from and where to.
    """
    for start, end, count in runs(pairs):
        target[end : end + count].copy_(source[start : start + count], non_blocking=True)
    return ()


class HostWorker:
    """
    One rank's slots, and its copies under way.

    Args:
        caches: Each layer's tensor, blocks first; all on one device.
        slots: How many host slots.
        drafts: Layers of a draft, whose pass comes after the model's, or not at all.
    """

    def __init__(self, caches: Mapping[str, Any], slots: int, drafts: Collection[str] = ()) -> None:
        device = next(iter(caches.values())).device
        self._caches = dict(caches)
        self._drafts = frozenset(drafts)
        # Pinned, or copies to and from an accelerator would not run beside its compute work.
        self.slots = {
            name: torch.empty((slots, *cache.shape[1:]), dtype=cache.dtype, pin_memory=device.type != "cpu")
            for name, cache in caches.items()
        }
        self.saves = side_of(device)
        self.loads = side_of(device)
        self._generations: dict[int, int] = {}
        #: Copies under way: numbers, and a mark for each layer.
        self._flights: list[tuple[list[int], list[Mark]]] = []
        #: This step's loads: layers that were not waited for, and the blocks.
        self._arriving: dict[str, Mark] = {}
        self._loading: list[int] = []
        self._invalid: set[int] = set()
        #: This step's pass was fed wrongly.
        self._spoilt = False
        self._failed: list[int] = []

    def load(self, orders: Sequence[Order]) -> None:
        """Start this step's loads; the forward pass has not begun."""
        good = []
        self._spoilt = False
        for order in orders:
            if self._generations.get(order.slot) == order.generation:
                good.append(order)
                continue
            _log.error("guard: host slot %d does not have content %d; not loaded", order.slot, order.generation)
            self._invalid.add(order.block)
            self._spoilt = True
            self._failed.append(order.number)
        self._loading = [order.block for order in good]
        self._arriving = self._start(self.loads, self.slots, self._caches, good, [(o.slot, o.block) for o in good])

    def wait(self, layer: str) -> None:
        """The layer is attended to after this."""
        mark = self._arriving.pop(layer, None)
        if mark is not None:
            self.loads.wait((mark,))

    def save(self, orders: Sequence[Order]) -> None:
        """Start this step's saves; its forward pass is queued. Nothing is kept of a pass that was fed wrongly."""
        self._check()
        self.loads.wait(self._arriving.values())
        self._arriving, self._loading = {}, []
        if self._spoilt:
            self._failed += [order.number for order in orders]
            return
        for order in orders:
            self._generations[order.slot] = order.generation
        self._start(self.saves, self._caches, self.slots, orders, [(order.block, order.slot) for order in orders])

    def invalid(self) -> set[int]:
        """Blocks whose content did not come, told once. The model's pass is queued, a draft's perhaps not yet."""
        self._check()
        invalid, self._invalid = self._invalid, set()
        return invalid

    def over(self) -> tuple[list[int], list[int]]:
        """Copies that are over since this was last asked, and those of them that were not made."""
        failed, self._failed = self._failed, []
        done, flights = list(failed), self._flights
        self._flights = []
        for numbers, marks in flights:
            if all(mark.passed() for mark in marks):
                done += numbers
            else:
                self._flights.append((numbers, marks))
        return done, failed

    def close(self) -> None:
        """Return when nothing is under way."""
        self.saves.close()
        self.loads.close()

    def _check(self) -> None:
        missed = [layer for layer in self._arriving if layer not in self._drafts]
        if missed:
            _log.error("guard: the forward pass did not wait for the loads of %s", ", ".join(missed))
            self._invalid.update(self._loading)
            self._spoilt = True
            self.loads.wait([self._arriving.pop(layer) for layer in missed])

    def _start(
        self,
        timeline: Any,
        sources: Mapping[str, Any],
        targets: Mapping[str, Any],
        orders: Sequence[Order],
        pairs: Sequence[tuple[int, int]],
    ) -> dict[str, Mark]:
        if not orders:
            return {}
        after = (timeline.mark(),)
        marks = {
            name: timeline.transfer(after, functools.partial(copy_rows, targets[name], sources[name], pairs))
            for name in self._caches
        }
        self._flights.append(([order.number for order in orders], list(marks.values())))
        return marks
