"""The fuzzer, for a short while, and that it would tell if something broke."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import fuzz_families
from tests.bench.fuzz_families import RSS_LIMIT, fuzz, one, seeds


@pytest.mark.timeout(170)
def test_twenty_seconds_of_fuzzing_find_nothing(tmp_path: Path) -> None:
    report = fuzz(20, seed=7, artifacts=tmp_path)
    assert report["ok"], report
    assert report["executions"] > report["seeds"] > 40
    assert report["edges"] > 500
    assert report["peak_rss_mb"] < RSS_LIMIT


def test_a_seed_reaches_the_family_it_was_recorded_from(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bytes] = []
    monkeypatch.setattr("tests.property.core.any_stream.play", lambda *_, **__: told.append(b"played"))
    for seed in seeds():
        one(seed)
    assert len(told) == len(seeds())


@pytest.mark.timeout(170)
def test_memory_over_the_limit_is_told(tmp_path: Path) -> None:
    report = fuzz(20, seed=7, artifacts=tmp_path, rss=30)
    assert not report["ok"]
    assert report["said"]


def test_an_exception_that_is_not_declared_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise KeyError("x")

    monkeypatch.setattr("tests.property.core.any_stream.play", broken)
    with pytest.raises(KeyError):
        fuzz_families.one(seeds()[0])
