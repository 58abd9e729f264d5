"""The budget of prefill tokens."""

from __future__ import annotations

from guard.rescore.bucket import TokenBucket


def test_what_is_taken_comes_back_with_time_and_never_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=100, burst_seconds=2)
    assert bucket.take(200, now=0)
    assert not bucket.take(50, now=0.4)
    assert bucket.take(50, now=0.5)
    assert bucket.take(200, now=1_000)
    assert not bucket.take(1, now=1_000)


def test_more_than_the_whole_bucket_is_served_from_a_full_one_and_paid_off_later() -> None:
    bucket = TokenBucket(rate=100, burst_seconds=1)
    assert bucket.take(300, now=0)
    assert not bucket.take(1, now=2)
    assert bucket.take(1, now=2.1)


def test_over_a_long_time_no_more_than_the_rate_is_taken() -> None:
    bucket = TokenBucket(rate=50, burst_seconds=1)
    taken = sum(30 for step in range(1_000) if bucket.take(30, now=step * 0.1))
    assert taken <= 50 * 100 + 50
