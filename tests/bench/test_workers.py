"""The benchmark of workers: it measures one and two, and holds every stream against what was to be said."""

from __future__ import annotations

from tests.bench.workers import measured, shown


def test_one_and_two_workers_are_measured() -> None:
    result = measured([1, 2], streams=16, rounds=1, chunks=40)
    assert result["integrity_errors"] == 0
    assert set(result["workers"]) == {"1", "2"}
    for figures in result["workers"].values():
        assert figures["chunks_per_s"] > 0
        assert 0 < figures["cores"] < 4
        assert figures["chunks_per_core_s"] > 0
    assert "| 2 | " in shown(result)
