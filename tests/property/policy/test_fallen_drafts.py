"""
A draft that fails anywhere in healthy text stops hardly any of it, and garbage in the same places is found.

What `python -m tests.bench.fallen_drafts` measures at length, on a sample.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import cache

import pytest

from guard.policy.judge import Judge
from guard.shipped import find_policy
from guard.types import Kind
from tests.bench.fallen_drafts import SETS, Fall, falls, garbage, missed, samples, stopped, texts

#: Falls in each text, and the share of them all that may be stopped as garbled: nothing, but for some texts of nothing
#: but abbreviations, data in one line or formulas (by name in the tests of those answers).
SAMPLE = {
    "traces": (3, 0.0),
    "turns": (10, 0.04),
    "rounds": (4, 0.0),
    "answers": (4, 0.0),
    "kinds": (10, 0.03),
    "unseen": (10, 0.03),
}
#: What garbage may be missed of, behind the beginnings of each set's texts: what most has hardly a broken word.
MISSED = 0.2


#: The same of what agents mostly write, by the policy for them.
AGENTS = {"turns": (6, 0.02), "kinds": (6, 0.06), "unseen": (6, 0.04)}


@cache
def judge(policy: str = "default") -> Judge:
    return Judge(find_policy(policy))


@pytest.mark.parametrize(
    ("policy", "name"), [*(("default", name) for name in sorted(SETS)), *(("coding-agents", name) for name in AGENTS)]
)
def test_a_draft_that_fails_in_healthy_text_stops_nearly_none_of_it(policy: str, name: str) -> None:
    count, share = (SAMPLE if policy == "default" else AGENTS)[name]
    seen = [(text.name, verdict) for text, _, verdict in stopped(judge(policy), name, count)]
    bad = Counter(
        (text, verdict.rule) for text, verdict in seen if verdict is not None and verdict.kind is not Kind.REPETITION
    )
    assert len(seen) == count * len(texts(name))
    assert bad.total() <= share * len(seen), bad


@pytest.mark.parametrize("name", ["turns", "kinds", "unseen"])
def test_garbage_in_the_same_places_is_found(name: str) -> None:
    found = [verdict is not None for *_, verdict in missed(judge(), name, 2)]
    assert found.count(False) <= MISSED * len(found)


def test_the_same_seed_gives_the_same_falls_and_streams() -> None:
    text = texts("kinds")[0]
    assert list(falls(text, 8)) == list(falls(text, 8)) != list(falls(text, 8, 1))
    fall = next(falls(text, 1))
    assert list(samples(text.said, fall)) == list(samples(text.said, fall))


def test_a_fall_is_where_it_should_be_and_lasts_as_long() -> None:
    said = "a word or two more " * 200
    fall, place, kept = Fall(1200, 100, 0.0, False, 7), 0, []
    for sample in samples(said, fall):
        kept.append((place, sample.steps[0].accepted))
        place += len(sample.texts[0][1])
    assert place == len(said)
    fallen = [accepted for at, accepted in kept if at >= 1200][:100]
    assert sum(fallen) == 0
    before = [accepted for at, accepted in kept if at < 1200]
    assert math.isclose(sum(before) / len(before), 0.6 + 0.36 + 0.216, rel_tol=0.2)
    assert sum(accepted for at, accepted in kept if at >= 2400) > 0


def test_all_texts_are_long_enough_and_there_is_garbage() -> None:
    assert all(texts(name) for name in SETS)
    assert len({text.name for name in SETS for text in texts(name)}) == sum(len(texts(name)) for name in SETS)
    assert len(garbage()) > 20
