"""How soon a guard is ready, in CPU time: what else the machine does must not count."""

from __future__ import annotations

from tests.bench.start import IMPORT, READY, measured


def test_a_guard_is_ready_within_a_second() -> None:
    result = measured(times=2)
    assert 0 < result["import_cpu_s"] <= IMPORT
    assert result["import_cpu_s"] < result["ready_cpu_s"] <= READY
    assert result["ready_wall_s"] > 0
