"""What the measurement of drafts that fail in healthy text makes is the same every time, and what it says it is."""

from __future__ import annotations

import math

from tests.bench.fallen_drafts import SETS, Fall, falls, garbage, samples, texts


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
