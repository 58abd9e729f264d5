"""The sequential test: its error rates hold, wherever a fault begins."""

from __future__ import annotations

import random

import pytest

from guard.rescore.floor import EDGES, Floor, measured
from guard.rescore.sequential import SequentialTest

EXACT = measured((0,) * 5, 3_000)


def run(floor: Floor, differences: list[float], **settings: float) -> SequentialTest:
    test = SequentialTest(floor, len(differences), **settings)  # type: ignore[arg-type]
    test.add_all(differences)
    return test


def healthy(floor: Floor, tokens: int, dice: random.Random) -> list[float]:
    """Differences as large as the floor allows: exactly its shares beyond each edge."""
    out = []
    for _ in range(tokens):
        draw = dice.random()
        beyond = [edge for edge, tail in zip(EDGES, floor.tails, strict=True) if draw < tail]
        out.append(beyond[-1] * 1.5 if beyond else 0.0)
    return out


@pytest.mark.parametrize("floor", [Floor(), EXACT], ids=["assumed", "exact"])
def test_a_right_cache_is_called_wrong_no_oftener_than_stated(floor: Floor) -> None:
    dice = random.Random(7)
    alpha = 0.05
    wrong = sum(run(floor, healthy(floor, 120, dice), alpha=alpha).wrong_at is not None for _ in range(1_000))
    assert wrong <= 1_000 * alpha


def test_a_wrong_cache_is_called_right_no_oftener_than_stated() -> None:
    dice = random.Random(11)
    beta = 0.05
    right = 0
    for _ in range(1_000):
        differences = [0.5 if dice.random() < 0.1 else 0.0 for _ in range(120)]
        test = run(EXACT, differences, beta=beta)
        right += test.right and test.wrong_at is None
    assert right <= 1_000 * beta


@pytest.mark.parametrize("onset", [0, 40, 300])
def test_a_fault_is_found_soon_after_it_began(onset: int) -> None:
    dice = random.Random(3)
    test = run(EXACT, [0.0] * onset + [abs(dice.gauss(0, 0.8)) for _ in range(100)])
    assert test.wrong_at is not None
    assert onset <= test.wrong_at < onset + 12


def test_a_cache_is_right_only_after_enough_tokens_past_the_suspected_onset() -> None:
    assert not run(EXACT, [0.0] * 200, onset=190).right
    assert run(EXACT, [0.0] * 200, onset=100).right
    assert run(EXACT, [0.0] * 200).wrong_at is None


def test_one_odd_token_proves_nothing() -> None:
    assert run(EXACT, [0.0] * 50 + [6.0] + [0.0] * 50).wrong_at is None


def test_a_floor_so_high_that_nothing_could_be_told_leaves_everything_undecided() -> None:
    test = run(Floor((0.9,) * 5), [0.0] * 500)
    assert not test.right
    assert test.wrong_at is None


def test_error_rates_are_chances() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        SequentialTest(EXACT, 10, alpha=0)
