"""What a policy is when nothing is said."""

from __future__ import annotations

from guard.policy.schema import HoldBack, Retry
from guard.policy.source import HoldBackSource, RetrySource
from guard.policy.units import parse_tokens


def test_written_and_typed_defaults_agree() -> None:
    written, typed = HoldBackSource(), HoldBack()
    assert (written.mode, written.hold_at, written.act_at) == (typed.mode, typed.hold_at, typed.act_at)
    assert (parse_tokens(written.limit), parse_tokens(written.window)) == (typed.limit, typed.window)
    assert (RetrySource().max_attempts, RetrySource().change) == (Retry().max_attempts, Retry().change)
