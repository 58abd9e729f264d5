"""The retry budget holds whatever the order of retries, their ends and the load."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.retry.budget import Budget, LocalBudget, parse_share

budgets = st.builds(Budget, share=st.integers(0, 10_000), floor=st.integers(0, 20))
steps = st.lists(st.tuples(st.booleans(), st.integers(0, 500), st.integers(1, 5)), max_size=200)


@given(budgets, steps)
def test_no_retry_is_admitted_beyond_the_guards_share(budget: Budget, steps: list[tuple[bool, int, int]]) -> None:
    local, model = LocalBudget(budget), 0
    for retry, active, guards in steps:
        if retry:
            granted = local.take(budget.alone(active, guards))
            assert granted == (model < budget.alone(active, guards))
            model += granted
        elif model:
            local.release()
            model -= 1
        assert local.in_flight == model


@given(budgets, st.integers(1, 8), st.integers(0, 500))
def test_guards_alone_under_even_load_exceed_the_fleets_budget_by_less_than_one_each(
    budget: Budget, guards: int, each: int
) -> None:
    alone = guards * budget.alone(each, guards)
    assert alone - budget.allowance(guards * each) < guards


@given(budgets, st.lists(st.tuples(st.integers(0, 500), st.integers(0, 60)), min_size=1, max_size=6))
def test_when_the_store_is_lost_guards_exceed_the_budget_by_at_most_one_each(
    budget: Budget, fleet: list[tuple[int, int]]
) -> None:
    """Whatever each held by the fleet's decision, and however uneven the load: then each goes on by what it knows."""
    active, held = [each for each, _ in fleet], [retries for _, retries in fleet]
    allowed = budget.allowance(sum(active))
    while sum(held) > allowed:  # what the store had granted was within the budget
        held[held.index(max(held))] -= 1
    limits = [
        budget.beside(mine, len(fleet), held[guard], sum(active) - mine, sum(held) - held[guard])
        for guard, mine in enumerate(active)
    ]
    assert sum(map(max, limits, held)) <= allowed + len(fleet)


@given(budgets, st.integers(0, 10_000), st.integers(0, 10_000))
def test_more_requests_never_allow_fewer_retries(budget: Budget, active: int, more: int) -> None:
    assert budget.allowance(active) <= budget.allowance(active + more)
    assert budget.alone(active, 2) <= budget.alone(active + more, 2)


@given(st.integers(0, 10_000))
def test_a_share_is_read_as_it_was_written(hundredths: int) -> None:
    assert parse_share(f"{hundredths // 100}.{hundredths % 100:02d}%") == hundredths
    assert parse_share(hundredths / 10_000) == hundredths
