"""Steps are one object for all windows of all streams; the windows themselves are read in test_acceptance."""

from __future__ import annotations

import pytest

from guard.detect.step_window import StepWindow, step_of
from guard.types import Unit, Window


@pytest.mark.parametrize("drafted", [-1, 0, 3, 14])
@pytest.mark.parametrize("accepted", [0, 3, 7])
def test_equal_steps_are_one_object_and_different_ones_are_not(accepted: int, drafted: int) -> None:
    found = {
        (accepted, rejected, drafted, tokens): step_of(accepted, rejected, drafted, tokens)
        for rejected in (0, 1)
        for tokens in (1, 2, 15)
    }
    for counts, step in found.items():
        assert step == counts
        assert step_of(*counts) is step


@pytest.mark.parametrize("counts", [(8, 0, 8, 9), (0, 1, 15, 1), (7, 1, 3, 16), (1, 1, -2, 2), (300, 0, 300, 301)])
def test_a_deep_step_holds_what_it_was_made_of(counts: tuple[int, int, int, int]) -> None:
    assert step_of(*counts) == counts


def test_what_may_leave_a_window_is_what_stands_at_its_beginning() -> None:
    window = StepWindow(Window(8, Unit.TOKENS))
    for accepted in (3, 0, 0, 0, 0):
        window.add(step_of(accepted, int(accepted < 3), 3, accepted + 1), accepted, int(accepted < 3), 3, accepted + 1)
    # All 3 kept of the first step leave first: then none of four positions is kept.
    assert window.slack(0.5, 0.0, 4) == (0.0 - 0.5 * 4, 0.5)
    assert window.rise_slack(0.9, 8)[0] < 0
