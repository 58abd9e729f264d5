"""guard.backend.device.scratch: rows laid out as blocks are, and tables that lead to the same content."""

from __future__ import annotations

import pytest
import torch

from guard.backend.device.scratch import RowMap, Scratch, layer_bytes


def caches() -> dict[str, torch.Tensor]:
    """Shape of each: [8 blocks, 2 heads, 4 rows, 6]."""
    numbers = torch.arange(8 * 2 * 4 * 6, dtype=torch.float32)
    return {
        "heads outside": numbers.view(8, 2, 4, 6),
        "rows outside": numbers.view(8, 4, 2, 6).permute(0, 2, 1, 3),
        "other layers between the blocks": numbers.repeat(2).view(8, 2, 2, 4, 6)[:, 0],
    }


@pytest.mark.parametrize("name", list(caches()))
def test_gathered_rows_are_the_blocks_in_the_same_layout(name: str) -> None:
    cache = caches()[name]
    slot = Scratch(cache, rows=5)
    slot.gather(cache, torch.tensor([6, 2, 3]))
    assert torch.equal(slot.blocks[:3], cache[[6, 2, 3]])
    assert slot.blocks.stride()[1:] == cache.stride()[1:]
    assert slot.nbytes == 5 * 2 * 4 * 6 * 4


def test_the_payload_is_the_slot_itself() -> None:
    cache = caches()["rows outside"]
    sender, receiver = Scratch(cache, 5), Scratch(cache, 5)
    sender.gather(cache, torch.tensor([1, 7]))
    receiver.payload(2).copy_(sender.payload(2))
    assert torch.equal(receiver.blocks[:2], cache[[1, 7]])
    assert not receiver.blocks[2:].any()


def test_a_packed_layer_is_bytes_that_fill_a_slot() -> None:
    for name, cache in caches().items():
        whole = layer_bytes(cache)
        if name.startswith("other"):
            assert whole is None
            continue
        assert whole is not None
        slot = Scratch(cache, 8)
        slot.payload(8).copy_(whole)
        assert torch.equal(slot.blocks, cache)


def test_tables_and_slots_lead_to_the_same_rows() -> None:
    rows = RowMap(20, torch.device("cpu"))
    for blocks in ((7, 3, 12), (3, 19)):
        rows.begin(blocks)
        table = torch.tensor([blocks], dtype=torch.int32)
        assert rows.table(table).tolist() == [list(range(len(blocks)))]
        assert rows.table(table).dtype == torch.int32
        assert rows.table(table) is rows.table(table)
        slots = torch.tensor([blocks[1] * 4 + 2, blocks[0] * 4, -1])
        assert rows.slots(slots, 4).tolist() == [6, 0, -1]
