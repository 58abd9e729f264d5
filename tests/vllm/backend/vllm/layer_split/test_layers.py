"""guard.backend.vllm.layer_split.layers: the engine's own methods run, on what LayerSplit hands them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from guard.backend.kv.layer_split import LayerSplitError, Rows
from guard.backend.vllm.layer_split.layers import wrap
from tests.vllm.backend.device.ranks import tensors
from tests.vllm.backend.device.test_layer_split import alone

BATCH = [{"table": [7, 3], "computed": 4, "length": 6, "id": 1}]


class Impl:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def do_kv_cache_update(self, layer: Any, key: Any, value: Any, kv_cache: Any, slot_mapping: Any) -> None:
        self.calls.append((kv_cache, slot_mapping.tolist()))

    def forward(
        self, layer: Any, query: Any, key: Any, value: Any, kv_cache: Any, attn_metadata: Any, output: Any = None
    ) -> Any:
        self.calls.append((kv_cache, None if attn_metadata is None else attn_metadata.block_table.tolist()))
        return output


def test_an_owned_layer_keeps_its_cache_and_tables_and_another_gets_the_slots() -> None:
    split = alone()
    table, slots, _ = tensors(BATCH)
    metadata = SimpleNamespace(block_table=table, num_actual_tokens=2)
    split.begin(Rows((7, 3), 1))
    for number in range(4):
        impl = Impl()
        wrap(impl, number, split)
        impl.do_kv_cache_update(None, None, None, "cache", slots)
        assert impl.forward(None, None, None, None, "cache", metadata, output="done") == "done"
        if number < 2:
            assert impl.calls == [("cache", slots.tolist()), ("cache", [[7, 3]])]
        else:
            slot = split._scratch[number % 2].blocks
            assert [each[0] is slot for each in impl.calls] == [True, True]
            # Block 7 is row 0, block 3 is row 1; the padding stays.
            assert [each[1] for each in impl.calls] == [[4, 5, -1], [[0, 1]]]
    assert metadata.block_table is table


def test_a_run_without_metadata_is_vllms_own() -> None:
    impl = Impl()
    wrap(impl, 0, alone())
    assert impl.forward(None, None, None, None, "cache", None, output="done") == "done"


def test_an_attention_whose_cache_update_was_left_out_is_an_error() -> None:
    split = alone()
    split.begin(Rows((7, 3), 1))
    impl = Impl()
    wrap(impl, 0, split, last_word=lambda step: step)
    with pytest.raises(LayerSplitError, match="expected layer 0"):
        impl.forward(None, None, None, None, "cache", SimpleNamespace(block_table=tensors(BATCH)[0]))
