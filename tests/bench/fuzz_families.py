"""
Coverage-guided fuzzing of every family, by hand:

    pip install atheris && python tests/bench/fuzz_families.py [CORPUS] -max_total_time=300 -rss_limit_mb=1024

What it finds belongs into tests/property/core/test_any_stream.py as a case of its own.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["guard"]):
    from guard.proto.registry import FAMILIES
    from tests.property.core.any_stream import BODIES, ENGINES, play, read_request


def one(data: bytes) -> None:
    """One input: which family, engine and request, where to cut, then the backend's bytes."""
    source = atheris.FuzzedDataProvider(data)
    family = FAMILIES[source.ConsumeIntInRange(0, len(FAMILIES) - 1)]
    engine = ENGINES[source.ConsumeIntInRange(0, len(ENGINES) - 1)]
    body = BODIES[source.ConsumeIntInRange(0, len(BODIES) - 1)]
    annotate = source.ConsumeBool()
    places = [source.ConsumeIntInRange(0, 2000) for _ in range(3)]
    stream = source.ConsumeBytes(source.remaining_bytes())
    if places[0] % 7 == 0:
        read_request(family, stream)
    marks = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    pieces = [stream[start:end] for start, end in itertools.pairwise(marks)]
    play(family, engine, body, pieces, annotate=annotate)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
