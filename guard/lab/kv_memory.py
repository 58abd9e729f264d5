"""
Corruption of a running request's KV cache, from inside the process that owns the buffers.

llama.cpp has no call that gives the address of a cache. So a slot is filled with a prompt nobody
else has, saved, and the saved rows are looked for in this process's own memory; then every layer's
rows are compared with where they must stand. A write that follows races with the compute threads,
as a late transfer does in a real server.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guard.errors import SetupError
from guard.lab.kv_state import StateLayout, corrupt_rows, parse_state

_PIECE_BYTES = 16 << 20
#: Rows of the last layer that are looked for together. Enough to be unique.
_NEEDLE_ROWS = 4


@dataclass(frozen=True)
class SlotAddress:
    """
    Where one slot's cache stands in memory.

    Args:
        blocks: Address of row 0 of each layer's keys, then of each layer's values. Unit: bytes.
        row_bytes: Bytes of one row.
        capacity_rows: Rows a block has room for.
    """

    blocks: tuple[int, ...]
    row_bytes: int
    capacity_rows: int


#: Slots located so far. One process has one server, so this is as global as the server is.
_located: dict[int, SlotAddress] = {}


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """
    Do what an order says.

    Args:
        order: {"op": "locate", "slot", "state": path of the slot just saved, "capacity_rows": rows of
            one slot, "num_streams": slots} or {"op": "corrupt", "slot", "fault", "seed", "first_row",
            "num_rows", "donor": path of another saved slot or None}.

    Returns:
        What was done, for the log.

    Raises:
        SetupError: The cache could not be found, or the slot was not located before.
        ValueError: The order makes no sense.
    """
    if order["op"] == "locate":
        found = locate(Path(order["state"]).read_bytes(), order["capacity_rows"], order["num_streams"])
        _located[order["slot"]] = found
        return {"located": order["slot"], "blocks": len(found.blocks), "row_bytes": found.row_bytes}
    if order["op"] != "corrupt":
        raise ValueError(f"unknown order {order['op']!r}")
    address = _located.get(order["slot"])
    if address is None:
        raise SetupError(f"slot {order['slot']} was not located")
    donor = Path(order["donor"]).read_bytes() if order.get("donor") else None
    last = min(order["first_row"] + order["num_rows"], address.capacity_rows)
    rows = range(order["first_row"], last)
    overwrite(address, rows, order["fault"], order["seed"], donor)
    done = {"corrupted": order["slot"], "fault": order["fault"], "rows": [rows.start, rows.stop]}
    print(f"FAULT INJECTED ON REQUEST into a running KV cache: {done}", file=sys.stderr, flush=True)
    return done


def locate(state: bytes, capacity_rows: int, num_streams: int) -> SlotAddress:
    """
    Find a just saved slot in this process's memory.

    Args:
        state: The saved file. Its prompt must be one that no other slot holds.
        capacity_rows: Rows that one slot has room for.
        num_streams: Slots that share a layer's buffer.

    Raises:
        SetupError: It stands nowhere, or at more than one place.
    """
    layout = parse_state(state)
    stride = capacity_rows * num_streams * layout.row_bytes
    first = max(layout.num_rows - _NEEDLE_ROWS, 0)
    # The last layer's keys: the draft shares the target's first layers, and with them the first
    # layers' rows, but not its last ones.
    start = layout.key_offsets[-1] + first * layout.row_bytes
    needle = state[start : layout.key_offsets[-1] + layout.num_rows * layout.row_bytes]
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        hits = [hit - first * layout.row_bytes for hit in _search(memory.fileno(), needle)]
        found = {
            blocks
            for hit in hits
            for blocks in _arrangements(hit, stride, layout.num_layers)
            if _all_match(memory.fileno(), blocks, state, layout)
        }
    if len(found) != 1:
        raise SetupError(
            f"the KV cache was found at {len(found)} places ({len(hits)} matches of the last layer); "
            "this build of llama.cpp arranges it in a way this code does not know"
        )
    return SlotAddress(found.pop(), layout.row_bytes, capacity_rows)


def _arrangements(last_key: int, stride: int, num_layers: int) -> Iterator[tuple[int, ...]]:
    """Block addresses, keys then values, for the ways the layers' tensors can follow each other."""
    pairs = last_key - 2 * stride * (num_layers - 1)
    keys = tuple(pairs + 2 * stride * layer for layer in range(num_layers))
    yield keys + tuple(key + stride for key in keys)


def _all_match(memory: int, blocks: Sequence[int], state: bytes, layout: StateLayout) -> bool:
    size = layout.num_rows * layout.row_bytes
    offsets = (*layout.key_offsets, *layout.value_offsets)
    try:
        return all(
            os.pread(memory, size, address) == state[offset : offset + size]
            for address, offset in zip(blocks, offsets, strict=True)
        )
    except (OSError, OverflowError, ValueError):  # not mapped, or not an address at all
        return False


def _search(memory: int, needle: bytes) -> list[int]:
    """Addresses at which bytes stand in the writable anonymous memory of this process."""
    hits = []
    for start, end in _writable_regions(Path("/proc/self/maps").read_text()):
        position = start
        while position < end:
            try:
                piece = os.pread(memory, min(_PIECE_BYTES, end - position), position)
            except OSError:  # unmapped since it was listed
                break
            at = piece.find(needle)
            while at >= 0:
                hits.append(position + at)
                at = piece.find(needle, at + 1)
            if len(piece) < _PIECE_BYTES:
                break
            position += len(piece) - len(needle) + 1
    return hits


def _writable_regions(maps: str) -> list[tuple[int, int]]:
    """Start and end of each private writable region without a file behind it, the stacks left out."""
    regions = []
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if fields[1].startswith("rw") and (len(fields) == 5 or fields[5].strip() == "[heap]"):
            start, end = (int(part, 16) for part in fields[0].split("-"))
            regions.append((start, end))
    return regions


def overwrite(address: SlotAddress, rows: range, fault: str, seed: int, donor: bytes | None) -> None:
    """
    Spoil rows of a located slot in place, all layers.

    Args:
        address: Where the slot stands.
        rows: Rows to hit.
        fault: One of `guard.lab.kv_state.FAULTS`.
        seed: Seed of the randomness.
        donor: Another saved slot, for "splice".

    Raises:
        ValueError: The range is empty, or as in `corrupt_rows`.
    """
    if not rows:
        raise ValueError("no rows to corrupt")
    donors = _donor_rows(donor, rows.start)
    rng = np.random.default_rng(seed)
    memory = os.open("/proc/self/mem", os.O_RDWR)
    try:
        for index, block in enumerate(address.blocks):
            place = block + rows.start * address.row_bytes
            have = os.pread(memory, len(rows) * address.row_bytes, place)
            before = np.frombuffer(have, np.float16).reshape(len(rows), -1)
            after = corrupt_rows(before, fault, rng, donors[index] if donors else None)
            os.pwrite(memory, after.tobytes(), place)
    finally:
        os.close(memory)


def _donor_rows(donor: bytes | None, first_row: int) -> list[Any]:
    if donor is None:
        return []
    layout = parse_state(donor)
    start = min(first_row, layout.num_rows - 1)
    return [layout.rows(donor, offset)[start:] for offset in (*layout.key_offsets, *layout.value_offsets)]
