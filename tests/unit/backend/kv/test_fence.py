"""Rule 6: steps in flight."""

from __future__ import annotations

import pytest

from guard.backend.kv.fence import Fence, StepOrderError, TokenCount
from guard.backend.kv.ids import Owner, Party, StepId

R = Owner("R", 1)


def test_a_release_waits_for_the_newest_step_launched() -> None:
    fence = Fence()
    assert fence.waits_for() is None
    fence.launch({R: 1})
    fence.launch({R: 2})
    assert fence.waits_for() == Party("step", 2)
    assert fence.process(StepId(1), {R: 1}) == Party("step", 1)
    assert fence.waits_for() == Party("step", 2)
    fence.process(StepId(2), {R: 2})
    assert fence.waits_for() is None


@pytest.mark.parametrize("step", [0, 2, 3])
def test_steps_are_processed_in_order_and_once(step: int) -> None:
    fence = Fence()
    fence.launch({R: 1})
    fence.launch({R: 2})
    with pytest.raises(StepOrderError, match="the next is 1 of 2"):
        fence.process(StepId(step), {})


def test_rejected_drafts_count_as_scheduled_and_never_as_settled() -> None:
    fence = Fence()
    step = fence.launch({R: 4})
    assert fence.count(R) == TokenCount(scheduled=4, settled=0)
    fence.process(step, {R: 1})
    assert fence.count(R) == TokenCount(scheduled=4, settled=1)
    assert fence.may_leave(R) == 1


def test_a_request_that_is_over_is_not_counted_again_by_its_last_step() -> None:
    fence = Fence()
    step = fence.launch({R: 1})
    fence.forget(R)
    fence.process(step, {R: 1})
    assert fence.count(R) == TokenCount()


def test_received_tokens_are_certain_without_a_step() -> None:
    fence = Fence()
    fence.certain(R, 5)
    fence.certain(R, 3)
    assert fence.count(R) == TokenCount(5, 5)
