"""What exchanges cost the shared Redis, by its own count."""

from __future__ import annotations

from tests.bench.store_operations import MOST, measured


async def test_a_healthy_exchange_makes_no_call_and_one_with_a_retry_at_most_three() -> None:
    result = await measured(healthy=40, retried=10)
    assert result["not_whole"] == 0
    assert result["retries"] == 10
    # Of 20 chunks each; one call a chunk would be 800 of them.
    assert result["calls_per_healthy_exchange"] == 0
    assert 1 <= result["calls_per_retried_exchange"] <= MOST
