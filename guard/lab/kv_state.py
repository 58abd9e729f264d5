"""
A llama.cpp slot saved to a file: where each layer's keys and values stand in it, and how to spoil them.

The file holds the token ids, one record for each cell of the cache, then for each layer one block of
key rows and, after all keys, for each layer one block of value rows. A block is its element type
(int32), the bytes of one row (uint64) and one row for each cell.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from guard.errors import SetupError

#: Ways to spoil rows. See `corrupt_rows`.
FAULTS = ("noise", "zero_half", "shuffle", "splice")

Rows = npt.NDArray[np.float16]

_MAGIC = 0x67677371
_VERSIONS = (2, 3, 4)
_TYPE_F16 = 1
_BLOCK_HEADER = struct.Struct("<iQ")
#: Unexplained words allowed between the cell records and the first block. Unit: bytes.
_SLACK_BYTES = 64
_MAX_LAYERS = 1024


@dataclass(frozen=True)
class StateLayout:
    """
    Where a saved slot's rows stand.

    Args:
        num_rows: Cells saved, one for each token.
        row_bytes: Bytes of one row of one layer, keys and values alike.
        key_offsets: Offset of each layer's first key row in the file. Unit: bytes.
        value_offsets: The same for values.
    """

    num_rows: int
    row_bytes: int
    key_offsets: tuple[int, ...]
    value_offsets: tuple[int, ...]

    @property
    def num_layers(self) -> int:
        """Layers saved."""
        return len(self.key_offsets)

    def rows(self, data: bytes | bytearray, offset: int) -> Rows:
        """
        One block as an array of shape [num_rows, row_bytes / 2]; a view, writable if `data` is.

        Args:
            data: The whole file.
            offset: One of the offsets of this layout.
        """
        count = self.num_rows * self.row_bytes // 2
        return np.frombuffer(data, np.float16, count, offset).reshape(self.num_rows, -1)


def parse_state(data: bytes | bytearray) -> StateLayout:
    """
    Find the rows in a saved slot.

    Every block header is checked against the others, and the last block must end the file but for
    the counts of empty streams, so a format that differs is refused rather than guessed at.

    Args:
        data: The whole file.

    Raises:
        SetupError: This is not such a file, or one this code does not understand; says what it met.
    """
    try:
        magic, version, num_words = struct.unpack_from("<3I", data, 0)
        if magic != _MAGIC:
            raise SetupError(f"not a saved slot: it begins with {magic:#x}, not {_MAGIC:#x}")
        if version not in _VERSIONS:
            raise SetupError(f"saved slots of version {version} are not understood, only {_VERSIONS}")
        num_rows, end = _skip_cells(data, 12 + 4 * num_words)
        transposed, num_layers = struct.unpack_from("<2I", data, end)
    except struct.error as error:
        raise SetupError(f"the saved slot is cut off after {len(data)} bytes") from error
    if transposed:
        raise SetupError("the saved slot has transposed values; run the server with flash attention")
    if not 0 < num_layers <= _MAX_LAYERS or not num_rows:
        raise SetupError(f"the saved slot claims {num_layers} layers of {num_rows} rows")
    return _blocks(data, end + 8, num_rows, num_layers)


def _skip_cells(data: bytes | bytearray, offset: int) -> tuple[int, int]:
    """Read the records of the one stream that has cells; gives their number and where they end."""
    (num_streams,) = struct.unpack_from("<I", data, offset)
    offset += 4
    for _ in range(num_streams):
        (num_rows,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if num_rows:
            for _ in range(num_rows):
                (num_sequences,) = struct.unpack_from("<I", data, offset + 4)
                offset += 8 + 4 * num_sequences
            return int(num_rows), offset
    raise SetupError(f"the saved slot is empty in all of its {num_streams} streams")


def _blocks(data: bytes | bytearray, start: int, num_rows: int, num_layers: int) -> StateLayout:
    first = _first_block(data, start)
    _, row_bytes = _BLOCK_HEADER.unpack_from(data, first)
    step = _BLOCK_HEADER.size + num_rows * row_bytes
    offsets = [first + index * step for index in range(2 * num_layers)]
    for index, offset in enumerate(offsets):
        if bytes(data[offset : offset + _BLOCK_HEADER.size]) != _BLOCK_HEADER.pack(_TYPE_F16, row_bytes):
            raise SetupError(f"block {index} of the saved slot is not {num_rows} f16 rows of {row_bytes} bytes")
    rest = len(data) - (offsets[-1] + step)
    if rest < 0:
        raise SetupError(f"the saved slot is cut off {-rest} bytes before the end of its last block")
    if any(data[len(data) - rest :]):
        raise SetupError(f"the saved slot goes on for {rest} bytes after its last block")
    places = [offset + _BLOCK_HEADER.size for offset in offsets]
    return StateLayout(num_rows, row_bytes, tuple(places[:num_layers]), tuple(places[num_layers:]))


def _first_block(data: bytes | bytearray, start: int) -> int:
    for offset in range(start, min(start + _SLACK_BYTES, len(data) - _BLOCK_HEADER.size), 4):
        kind, row_bytes = _BLOCK_HEADER.unpack_from(data, offset)
        if kind == _TYPE_F16 and 0 < row_bytes <= 1 << 20 and row_bytes % 2 == 0:
            return offset
    raise SetupError("no block of f16 rows follows the cell records; run the server with an f16 cache")


def corrupt_rows(rows: Rows, fault: str, rng: np.random.Generator, donor: Rows | None = None) -> Rows:
    """
    Spoil rows of one block.

    Args:
        rows: Shape [num_rows, width]; not changed.
        fault: "noise": every row replaced by normal noise of the block's own mean and deviation.
            "zero_half": a random half of the rows zeroed. "shuffle": rows permuted. "splice": rows
            taken from another sequence.
        rng: Source of randomness.
        donor: Rows of the other sequence, at least one, for "splice"; repeated when too few.

    Returns:
        New rows of the same shape.

    Raises:
        ValueError: Unknown fault, or a splice without a donor.
    """
    if fault == "noise":
        wide = rows.astype(np.float32)
        return rng.normal(wide.mean(), wide.std(), rows.shape).astype(np.float16)
    if fault == "zero_half":
        spoiled = rows.copy()
        spoiled[rng.permutation(len(rows))[: (len(rows) + 1) // 2]] = 0
        return spoiled
    if fault == "shuffle":
        return rows[rng.permutation(len(rows))]
    if fault == "splice":
        if donor is None or not len(donor):
            raise ValueError("a splice needs rows of another sequence")
        return donor[np.arange(len(rows)) % len(donor)]
    raise ValueError(f"unknown fault {fault!r}; one of {', '.join(FAULTS)}")


def edit_state(
    data: bytes,
    fault: str,
    seed: int,
    *,
    first_row: int = 0,
    num_rows: int | None = None,
    donor: bytes | None = None,
) -> tuple[bytes, range]:
    """
    Spoil a saved slot.

    All layers are hit in the same range of rows, keys and values each with their own randomness,
    as a late write of a whole block of the cache would.

    Args:
        data: The whole file.
        fault: One of FAULTS.
        seed: Seed of the randomness.
        first_row: First row hit.
        num_rows: Rows hit; None means all that follow.
        donor: Another saved slot, for "splice".

    Returns:
        The edited file, of the same length, and the rows hit.

    Raises:
        SetupError: A file is not understood, or the two do not have the same shape.
        ValueError: The range is empty, or as in `corrupt_rows`.
    """
    layout = parse_state(data)
    last = layout.num_rows if num_rows is None else min(first_row + num_rows, layout.num_rows)
    if not 0 <= first_row < last:
        raise ValueError(f"rows {first_row} to {last} are not within the {layout.num_rows} that were saved")
    donors = _donor_blocks(layout, donor, first_row)
    rng = np.random.default_rng(seed)
    edited = bytearray(data)
    for index, offset in enumerate((*layout.key_offsets, *layout.value_offsets)):
        rows = layout.rows(edited, offset)[first_row:last]
        rows[:] = corrupt_rows(rows, fault, rng, donors[index] if donors else None)
    return bytes(edited), range(first_row, last)


def _donor_blocks(layout: StateLayout, donor: bytes | None, first_row: int) -> list[Any]:
    """The other sequence's rows from the same place on, block by block."""
    if donor is None:
        return []
    other = parse_state(donor)
    if (other.num_layers, other.row_bytes) != (layout.num_layers, layout.row_bytes):
        raise SetupError("the two saved slots are not of the same model")
    start = min(first_row, other.num_rows - 1)
    return [other.rows(donor, offset)[start:] for offset in (*other.key_offsets, *other.value_offsets)]
