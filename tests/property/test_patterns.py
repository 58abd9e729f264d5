"""
No regular expression of the guard takes more than linear time on any text.

Each is run on texts made to be hard for it: long runs of every kind of character that stands in a pattern,
pairs of them, and runs with a wrong end. Twice the text may take twice the time, and not four times.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Iterator

import pytest

import guard

SIZE = 10_000
#: What one search of SIZE characters may take where it is linear; a quadratic one takes a hundred times that.
SECONDS = 0.15
#: Pattern -> longest text it is ever given: a page.
BOUNDED = {"guard.detect.garble._TRAIL": 64}
#: Only ever used from the start of a text on.
ANCHORED = {"guard.detect.garble._DUMP", "guard.policy.units._DURATION"}
RUNS = ("a", "A", "1", " ", "\n", "\t", "_", "-", "/", '"', "'", "`", ".", ",", "!", "<", "|", "(", "[", "{", ":", "=",
        "é", "ж", "日", "ん", "\u201c", "a ", "a,", "1,", "ab ", "count ", "list ", "repeat ", "\r", "\r\n", ": [",
        "<|", "the ", "in ", "0x")  # fmt: skip
ENDS = ("", "\x00", "!", "a", "\n")


def patterns() -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes]]]:
    # What runs inside vLLM reads nothing from outside, and its modules cannot be imported here.
    skipped = ("guard.backend.vllm", "guard.backend.testbed", "guard.backend.device", "guard.__main__")
    for module in pkgutil.walk_packages(guard.__path__, "guard."):
        if module.name.startswith(skipped):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                yield f"{module.name}.{name}", value


FOUND = sorted(patterns(), key=lambda one: one[0])


def test_there_are_patterns_to_look_at() -> None:
    assert len(FOUND) > 30


@pytest.mark.parametrize(("name", "pattern"), FOUND, ids=[name for name, _ in FOUND])
def test_linear_on_hard_texts(name: str, pattern: re.Pattern[str] | re.Pattern[bytes]) -> None:
    size = BOUNDED.get(name, SIZE)
    anchored = (pattern.match, pattern.fullmatch)
    uses = anchored if name in ANCHORED else (*anchored, pattern.search, pattern.findall)
    for run in RUNS:
        for end in ENDS:
            text = (run * (size // len(run) + 1))[:size] + end
            subject = text.encode() if isinstance(pattern.pattern, bytes) else text
            for use in uses:
                begun = time.thread_time()
                use(subject)  # type: ignore[operator]
                took = time.thread_time() - begun
                assert took < SECONDS, f"{name}: {took:.2f} s on {size} times {run!r} and {end!r}"
