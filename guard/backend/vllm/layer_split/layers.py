"""Takes over one attention layer: its cache update and its attention use what LayerSplit hands them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from guard.backend.device.layer_split import LayerSplit
from guard.backend.vllm.layer_split.fatal import fatal


def wrap(impl: Any, number: int, split: LayerSplit, last_word: Callable[..., Any] = fatal) -> None:
    """
    Replace the two methods of one layer's implementation, on the object.

    Args:
        impl: vLLM's `AttentionImpl`.
        number: Of the layer.
        split: LayerSplit of this rank.
        last_word: What is made of an exception in either method.
    """
    update, forward = impl.do_kv_cache_update, impl.forward

    def do_kv_cache_update(layer: Any, key: Any, value: Any, kv_cache: Any, slot_mapping: Any) -> None:
        where, slots = split.write(number, kv_cache, slot_mapping)
        update(layer, key, value, where, slots)
        split.wrote()

    def attend(
        layer: Any, query: Any, key: Any, value: Any, kv_cache: Any, attn_metadata: Any, *rest: Any, **named: Any
    ) -> Any:
        # A run to measure memory has no metadata, and vLLM's own code does nothing then.
        if attn_metadata is None:
            return forward(layer, query, key, value, kv_cache, attn_metadata, *rest, **named)
        where, table = split.attend(number, kv_cache, attn_metadata.block_table)
        metadata = attn_metadata
        if table is not attn_metadata.block_table:
            metadata = copy.copy(attn_metadata)
            metadata.block_table = table
        done = forward(layer, query, key, value, where, metadata, *rest, **named)
        split.attended()
        return done

    impl.do_kv_cache_update, impl.forward = last_word(do_kv_cache_update), last_word(attend)
