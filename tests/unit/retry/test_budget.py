"""The retry budget: Envoy's rule, a guard's part of it, and how a share is written."""

from __future__ import annotations

import pytest

from guard.retry.budget import Budget, LocalBudget, parse_share


@pytest.mark.parametrize(("active", "allowed"), [(0, 3), (15, 3), (23, 3), (24, 4), (1200, 200)])
def test_the_larger_of_floor_and_share(active: int, allowed: int) -> None:
    assert Budget(share=2_000, floor=3).allowance(active) == allowed


def test_a_share_is_rounded_down_exactly() -> None:
    assert Budget(share=2_900, floor=0).allowance(129) == 29  # 0.29 * 100 is 28.999... in floating point


@pytest.mark.parametrize("share", [0, 1, 500, 2_000, 5_000, 10_000])
def test_retries_are_a_share_of_the_requests_that_are_not_being_retried(share: int) -> None:
    for active in range(400):
        retries = Budget(share=share, floor=0).allowance(active)
        assert retries * 10_000 <= share * (active - retries)
        assert (retries + 1) * 10_000 > share * (active - retries - 1), "and as many as that leaves room for"


@pytest.mark.parametrize(("guards", "allowed"), [(0, 3), (1, 3), (2, 2), (3, 1), (50, 1)])
def test_alone_a_guard_has_its_part_of_the_floor(guards: int, allowed: int) -> None:
    assert Budget(floor=3).alone(0, guards) == allowed


def test_alone_a_busy_guard_has_the_share_of_its_own_requests() -> None:
    assert Budget(share=2_000, floor=3).alone(120, 3) == 20


def test_a_floor_and_a_share_of_nothing_refuse_all() -> None:
    budget = Budget(share=0, floor=0)
    assert budget.allowance(1000) == budget.alone(1000, 2) == budget.beside(1000, 2, 0, 1000, 0) == 0
    assert not LocalBudget(budget).take(0)


def test_what_the_others_hold_is_left_to_them() -> None:
    budget = Budget(share=2_000, floor=3)
    assert budget.beside(60, 2, held=0, others_active=60, others_held=0) == 10
    assert budget.beside(60, 2, held=0, others_active=60, others_held=15) == 3
    assert budget.beside(60, 2, held=5, others_active=60, others_held=15) == 5
    assert budget.beside(60, 2, held=20, others_active=60, others_held=0) == 10, "its share, and no more"
    assert budget.beside(60, 2, held=0, others_active=60, others_held=20) == 1, "one is always left"
    assert budget.beside(1, 1, held=0, others_active=0, others_held=0) == 3


def test_what_was_never_taken_cannot_be_given_back() -> None:
    with pytest.raises(ValueError, match="never taken"):
        LocalBudget(Budget()).release()


@pytest.mark.parametrize(
    ("text", "hundredths"), [("20%", 2_000), (" 0.5 % ", 50), ("100%", 10_000), ("12.34%", 1_234), (0.2, 2_000), (0, 0)]
)
def test_shares_as_people_write_them(text: str | float, hundredths: int) -> None:
    assert parse_share(text) == hundredths


@pytest.mark.parametrize("text", ["20", "101%", "-1%", "%", "", "twenty%", 1.5, -0.1, "1.234%", float("inf")])
def test_what_is_no_share(text: str | float) -> None:
    with pytest.raises(ValueError, match="is no share"):
        parse_share(text)
