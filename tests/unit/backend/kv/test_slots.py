"""LayerSplit's scratch slots: H10 to H12."""

from __future__ import annotations

import pytest

from guard.backend.kv.ordering import Cell, Op, Ordering
from guard.backend.kv.slots import ScratchSlots, StaleSlot

SOURCE = (Cell("block", 0, 0),)


def test_slots_are_taken_in_turn_across_steps() -> None:
    slots = ScratchSlots(Ordering(), layers=3)
    assert [slots.cell(step, layer).number for step in (0, 1) for layer in (0, 1, 2)] == [0, 1, 0, 1, 0, 1]


def test_a_broadcast_waits_for_its_layers_load_and_the_attention_for_the_broadcast() -> None:
    ordering = Ordering()
    slots = ScratchSlots(ordering, layers=2)
    load = ordering.begin(Op.LOAD, writes=SOURCE)
    broadcast = slots.broadcast(0, 0, SOURCE)
    assert broadcast.waits == {load.event}
    assert slots.attend(0, 0).waits == {broadcast.event}


def test_a_slot_is_overwritten_after_its_last_reader() -> None:
    slots = ScratchSlots(Ordering(), layers=3)
    first = slots.broadcast(0, 0, SOURCE)
    reader = slots.attend(0, 0)
    assert slots.broadcast(0, 2, (Cell("block", 0, 2),)).waits == {first.event, reader.event}


def test_a_skipped_broadcast_is_refused_not_read() -> None:
    slots = ScratchSlots(Ordering(), layers=2)
    with pytest.raises(StaleSlot, match="not layer 0 of step 0"):
        slots.attend(0, 0)
    slots.broadcast(0, 0, SOURCE)
    slots.attend(0, 0)
    with pytest.raises(StaleSlot, match="not layer 0 of step 1"):
        slots.attend(1, 0)


def test_the_prefetch_does_not_overwrite_what_nobody_has_read() -> None:
    slots = ScratchSlots(Ordering(), layers=3)
    slots.broadcast(0, 0, SOURCE)
    with pytest.raises(StaleSlot, match="nobody has attended to"):
        slots.broadcast(0, 2, SOURCE)
