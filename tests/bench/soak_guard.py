"""
`guard serve` on a wall clock that can be set while it runs; the clock that only goes forward is left alone.

Run: `python -m tests.bench.soak_guard OFFSET_FILE serve ...`. OFFSET_FILE holds one double, the seconds to add: what a
machine's clock does when somebody sets it, done to one process.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

SIZE = struct.calcsize("d")


def shared(path: Path) -> mmap.mmap:
    """The file that holds the offset."""
    with path.open("a+b") as file:
        file.truncate(SIZE)
        return mmap.mmap(file.fileno(), SIZE)


def main(argv: list[str]) -> int:
    offset, real = shared(Path(argv[0])), time.time
    # Before anything of the guard is imported, so that it knows no other clock.
    time.time = lambda: real() + float(struct.unpack("d", offset[:SIZE])[0])
    from guard.cli import main as guard  # noqa: PLC0415

    return guard(argv[1:])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
