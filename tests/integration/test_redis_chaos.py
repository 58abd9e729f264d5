"""Two guard processes under load while their Redis is killed, stopped, filled, read-only, restarted, emptied."""

from __future__ import annotations

from typing import Any

from tests.bench.redis_chaos import ADDED, TROUBLES, run


async def test_trouble_with_redis_hangs_no_request_spoils_no_text_and_keeps_the_budget() -> None:
    result: dict[str, Any] = await run(seconds=1.5, recovery=1.5)
    assert result["breaches"] == []
    seen = {phase["phase"]: phase for phase in result["phases"]}
    assert set(TROUBLES) < set(seen)
    for name in TROUBLES:
        assert seen[name]["retries"] > 0, f"{name}: nothing was retried, so nothing was shown"
        assert seen[name]["whole"] > 0
    assert result["mean_wait_ms"] < 1000 * ADDED
    calls = result["calls"]
    assert calls['guard_retry_admissions_total{by="fleet",result="granted"}'] > 0
    assert calls['guard_retry_admissions_total{by="guard",result="granted"}'] > 0
    assert any("refused" in name for name in calls)
