"""A saved slot of a small model that never was, for tests."""

import struct

import numpy as np


def saved_slot(num_rows: int = 8, num_layers: int = 3, width: int = 4, seed: int = 0, slack: int = 8) -> bytes:
    """A file as llama.cpp writes it: tokens, cells of the first of two streams, keys, values."""
    rng = np.random.default_rng(seed)
    parts = [struct.pack("<3I", 0x67677371, 4, num_rows), struct.pack(f"<{num_rows}i", *range(num_rows))]
    parts.append(struct.pack("<2I", 2, num_rows))
    parts += [struct.pack("<3i", row, 1, 0) for row in range(num_rows)]
    parts.append(struct.pack("<2I", 0, num_layers) + b"\0" * slack)
    for _ in range(2 * num_layers):
        parts.append(struct.pack("<iQ", 1, 2 * width))
        parts.append(rng.normal(0, 1, (num_rows, width)).astype(np.float16).tobytes())
    parts.append(struct.pack("<I", 0))  # the second stream has no cells
    return b"".join(parts)
