"""
Corruption of the draft model's own KV cache, which no interface of llama.cpp reaches.

The draft keeps the target's first layers, so those layers' rows stand in memory twice, bit for bit: once in the
target's cache and once in the draft's. A slot is filled with a prompt nobody else has and saved; of the places
where the last shared layer's rows stand, the draft's is the one where the target's last layer does not follow.
Text stays perfect when it is spoiled: the target refuses what such a draft proposes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np

from guard.errors import SetupError
from guard.lab.draft import Recipe
from guard.lab.embedded import EmbeddedBackend
from guard.lab.kv_memory import SlotAddress
from guard.lab.kv_state import StateLayout, corrupt_rows, parse_state

#: Rows that are looked for together, and the first of them: behind what is the same in every prompt. Unit: rows.
_NEEDLE = (8, 12)
_PROBE = "Harbour, candle, violin, meadow, thunder, button, saddle, pepper, window, ladder, marble, feather."


def shared_layers(recipe: Recipe) -> int:
    """
    How many of the target's first layers a draft has.

    Raises:
        SetupError: It has none: its cache holds nothing that could be recognised.
    """
    count = min(recipe.layers.dropped, default=len(recipe.layers.kept))
    if not count:
        raise SetupError(f"the draft {recipe.name} shares no first layer with its target")
    return count


def draft_blocks(
    hits: Sequence[int], layout: StateLayout, state: bytes, stride: int, layers: tuple[int, int], memory: int
) -> tuple[int, ...]:
    """
    Where the draft's cache stands, out of the places where the last shared layer's keys were found.

    Args:
        hits: Addresses of row 0 of that layer's keys.
        layout: Of the saved slot.
        state: The saved slot of the target.
        stride: Bytes from one block to the next.
        layers: Layers shared, and layers of the draft.
        memory: Descriptor of the process's memory.

    Returns:
        Address of row 0 of each layer's keys, then of each layer's values.

    Raises:
        SetupError: None or several places are the draft's.
    """
    shared, total = layers
    found = []
    for hit in hits:
        first = hit - 2 * stride * (shared - 1)
        keys = [first + 2 * stride * layer for layer in range(layout.num_layers)]
        same = [
            _holds(memory, key, state, layout, layout.key_offsets[layer])
            and _holds(memory, key + stride, state, layout, layout.value_offsets[layer])
            for layer, key in enumerate(keys)
        ]
        if all(same[:shared]) and not same[-1]:
            found.append((*keys[:total], *(key + stride for key in keys[:total])))
    if len(found) != 1:
        raise SetupError(f"the draft's KV cache was found at {len(found)} places ({len(hits)} matches)")
    return found[0]


def buffers(maps: str) -> list[tuple[int, int]]:
    """Start and end of each private writable region without a file behind it, as `/proc/<pid>/maps` lists them."""
    found = []
    for line in maps.splitlines():
        fields = line.split()
        if fields[1].startswith("rw") and len(fields) == 5:
            start, _, end = fields[0].partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def find(memory: int, needle: bytes, regions: Sequence[tuple[int, int]]) -> list[int]:
    """
    Addresses at which bytes stand.

    Args:
        memory: Descriptor of the process's memory.
        needle: What is looked for.
        regions: Start and end of what is searched.
    """
    hits = []
    for start, end in regions:
        # One read a region: a cache is one mapping, and a mapping that went meanwhile holds none.
        try:
            piece = os.pread(memory, end - start, start)
        except OSError:
            continue
        at = piece.find(needle)
        while at >= 0:
            hits.append(start + at)
            at = piece.find(needle, at + 1)
    return hits


def _holds(memory: int, address: int, state: bytes, layout: StateLayout, offset: int) -> bool:
    first, last = _NEEDLE
    size = (last - first) * layout.row_bytes
    start = offset + first * layout.row_bytes
    try:
        return os.pread(memory, size, address + first * layout.row_bytes) == state[start : start + size]
    except (OSError, OverflowError):  # not mapped, or not an address at all
        return False


class DraftCache:
    """
    The draft's cache of each slot of an embedded backend.

    Args:
        backend: Running, with a draft made by a recipe.
        recipe: That recipe.
    """

    def __init__(self, backend: EmbeddedBackend, recipe: Recipe) -> None:
        self._backend = backend
        self._layers = (shared_layers(recipe), len(recipe.layers.kept))
        self._slots: dict[int, SlotAddress] = {}

    async def locate(self, client: httpx.AsyncClient, slot: int) -> None:
        """
        Find the cache of a slot, while no slot is in use: other batches give other bits.

        Raises:
            SetupError: It is at no place, or at several.
        """
        url = self._backend.url
        name = f"draft-probe-{slot}.bin"
        body = {"prompt": f"{time.time_ns()} {_PROBE}", "n_predict": 1, "id_slot": slot, "cache_prompt": False}
        for path, fields in (("/completion", body), (f"/slots/{slot}?action=save", {"filename": name})):
            reply = await client.post(url + path, json=fields)
            reply.raise_for_status()
        props = (await client.get(f"{url}/props")).json()
        capacity = int(props["default_generation_settings"]["n_ctx"])
        state = (self._backend.slots_folder / name).read_bytes()
        self._slots[slot] = await asyncio.to_thread(self._find, state, capacity, int(props["total_slots"]))
        (await client.post(f"{url}/slots/{slot}?action=erase", json={})).raise_for_status()

    def _find(self, state: bytes, capacity_rows: int, num_streams: int) -> SlotAddress:
        layout = parse_state(state)
        stride = capacity_rows * num_streams * layout.row_bytes
        first, last = _NEEDLE
        start = layout.key_offsets[self._layers[0] - 1] + first * layout.row_bytes
        needle = state[start : start + (last - first) * layout.row_bytes]
        memory = os.open(f"/proc/{self._pid}/mem", os.O_RDONLY)
        try:
            regions = buffers(Path(f"/proc/{self._pid}/maps").read_text())
            hits = [hit - first * layout.row_bytes for hit in find(memory, needle, regions)]
            blocks = draft_blocks(hits, layout, state, stride, self._layers, memory)
        finally:
            os.close(memory)
        return SlotAddress(blocks, layout.row_bytes, capacity_rows)

    def spoil(self, slot: int, num_rows: int, seed: int) -> None:
        """
        Replace rows of a located slot by noise, in all layers of the draft.

        Args:
            slot: One that was located.
            num_rows: Rows hit, from the first on.
            seed: Seed of the noise.
        """
        address = self._slots[slot]
        rng = np.random.default_rng(seed)
        memory = os.open(f"/proc/{self._pid}/mem", os.O_RDWR)
        try:
            for block in address.blocks:
                have = os.pread(memory, num_rows * address.row_bytes, block)
                rows = np.frombuffer(have, np.float16).reshape(num_rows, -1)
                os.pwrite(memory, corrupt_rows(rows, "noise", rng).tobytes(), block)
        finally:
            os.close(memory)

    @property
    def _pid(self) -> int:
        if self._backend.pid is None:
            raise SetupError("the embedded backend is not running")
        return self._backend.pid
