"""
What the scripted backend says, and what a client must therefore have read: known to both, sent by neither.

Text and acceptance are recorded ones (tests/data/traces), so that the detectors do their usual work on them.
A request names its stream in the prompt, the one thing that every proxy hands on:
`bench:SLOT:CHUNKS:DELAY`, with the delay in microseconds; 0 sends each chunk when the client has the one before.
Both processes share two arrays of 64-bit integers in one file: when each chunk was sent, how many were received.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import mmap
import re
from pathlib import Path
from typing import NamedTuple

TRACES = Path(__file__).resolve().parent.parent / "data" / "traces"
#: Those that are read, always the same: figures stay comparable when more are recorded.
SETS = ("tuning.jsonl.gz", "unseen.jsonl.gz")
DRAFTED = 3
MARK = re.compile(rb"bench:(\d+):(\d+):(\d+)")
MAX_SLOTS = 8192
MAX_STAMPS = 1 << 20
MODEL = "bench"


class Shape(NamedTuple):
    """
    One stream. Units: chunks, microseconds.

    Args:
        slot: Number of the stream within its load.
        chunks: How many with text it has.
        delay: Between two chunks; 0 for in step with the client.
    """

    slot: int
    chunks: int
    delay: int

    def prompt(self) -> str:
        return f"Tell me about it. bench:{self.slot}:{self.chunks}:{self.delay}"


class Piece(NamedTuple):
    """One chunk: one verify step."""

    text: str
    tokens: int
    accepted: int


@functools.cache
def stories() -> list[list[Piece]]:
    """Healthy prose recorded with three drafted tokens, one list a recording."""
    found = []
    for name in SETS:
        with gzip.open(TRACES / name, "rt", encoding="utf-8") as lines:
            cases = [json.loads(line) for line in lines]
        for case in cases:
            if (case["kind"], case["subkind"], case["num_speculative_tokens"]) == ("healthy", "prose", DRAFTED):
                found.append([Piece(chunk[0], chunk[1], chunk[2]) for chunk in case["chunks"] if chunk[0]])
    return found


@functools.cache
def script(first: int) -> list[Piece]:
    """All recordings one after another, beginning with number `first`."""
    told = stories()
    return [piece for number in range(len(told)) for piece in told[(first + number) % len(told)]]


def pieces(slot: int, chunks: int) -> list[Piece]:
    """What one stream says."""
    return script(slot % len(stories()))[:chunks]


@functools.cache
def digest(first: int, chunks: int) -> bytes:
    """Hash of the whole text of a stream that begins with recording `first`."""
    return text_hash("".join(piece.text for piece in script(first)[:chunks]))


def expected(slot: int, chunks: int) -> bytes:
    """Hash of the text that the client of a stream must have read."""
    return digest(slot % len(stories()), chunks)


def text_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def shared_arrays(path: Path) -> tuple[memoryview, memoryview]:
    """
    The arrays in the shared file, made if it is new.

    Returns:
        Send times (ns of the monotonic clock, at slot * chunks + number) and received chunks by slot.
    """
    size = 8 * (MAX_STAMPS + MAX_SLOTS)
    with path.open("a+b") as file:
        file.truncate(size)
        view = memoryview(mmap.mmap(file.fileno(), size)).cast("q")
    return view[:MAX_STAMPS], view[MAX_STAMPS:]
