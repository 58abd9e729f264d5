"""guard.lab.draft_memory: the draft's cache is told from the target's, in this very process's memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import numpy as np
import pytest

from guard.errors import SetupError
from guard.lab.draft import Layers, Recipe, load_recipe
from guard.lab.draft_memory import buffers, draft_blocks, find, shared_layers
from guard.lab.kv_state import StateLayout, parse_state
from tests.unit.lab.state_file import saved_slot

CAPACITY, LAYERS, SHARED, WIDTH, USED = 32, 4, 2, 64, 16
STATE = saved_slot(num_rows=USED, num_layers=LAYERS, width=WIDTH, seed=7)
LAYOUT: StateLayout = parse_state(STATE)
STRIDE = CAPACITY * WIDTH * 2


class Cache:
    """A buffer laid out as llama.cpp does: for each layer its keys, then its values."""

    def __init__(self, num_layers: int, num_same: int) -> None:
        self.map = mmap.mmap(-1, 2 * LAYERS * STRIDE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = np.frombuffer(self.map, np.float16).reshape(LAYERS, 2, CAPACITY, WIDTH)
        for layer in range(num_layers):
            for part, offsets in enumerate((LAYOUT.key_offsets, LAYOUT.value_offsets)):
                rows = LAYOUT.rows(STATE, offsets[layer])
                self.view[layer, part, :USED] = rows if layer < num_same else -rows
        self.address = int(self.view.__array_interface__["data"][0])
        self.shared_key = self.address + 2 * STRIDE * (SHARED - 1)


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_the_draft_is_where_the_targets_last_layer_does_not_follow(memory: int) -> None:
    target, draft = Cache(LAYERS, LAYERS), Cache(LAYERS - 1, SHARED)
    hits = [target.shared_key, draft.shared_key]
    found = draft_blocks(hits, LAYOUT, STATE, STRIDE, (SHARED, LAYERS - 1), memory)
    keys = [draft.address + 2 * STRIDE * layer for layer in range(LAYERS - 1)]
    assert found == (*keys, *(key + STRIDE for key in keys))


def test_a_draft_that_is_nowhere_is_an_error(memory: int) -> None:
    with pytest.raises(SetupError, match="0 places"):
        draft_blocks([Cache(LAYERS, LAYERS).shared_key], LAYOUT, STATE, STRIDE, (SHARED, LAYERS - 1), memory)


def test_bytes_are_found_in_the_regions_given(memory: int) -> None:
    cache = Cache(1, 1)
    needle = bytes(cache.view[0, 0, 3:5].tobytes())
    region = (cache.address, cache.address + 2 * LAYERS * STRIDE)
    assert find(memory, needle, [region]) == [cache.address + 3 * WIDTH * 2]
    assert find(memory, needle, [(1, 2)]) == []


def test_only_private_writable_memory_without_a_file_is_a_buffer() -> None:
    maps = (
        "1000-2000 rw-p 00000000 00:00 0\n"
        "2000-3000 r--p 00000000 00:00 0\n"
        "3000-4000 rw-p 00000000 08:01 77   /usr/lib/libc.so\n"
    )
    assert buffers(maps) == [(0x1000, 0x2000)]


def test_layers_before_the_first_one_left_out_are_shared() -> None:
    recipe = load_recipe("smollm2-135m-drop17")
    assert shared_layers(recipe) == 17
    other = Recipe("x", "", "", recipe.target, Layers(kept=(1,), dropped=(0,)), "", 3)
    with pytest.raises(SetupError, match="shares no first layer"):
        shared_layers(other)
