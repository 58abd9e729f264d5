"""From log-probabilities as emitted and as computed again to a verdict on the cache."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from guard.rescore.floor import Floor
from guard.rescore.sequential import SequentialTest


class CacheVerdict(enum.StrEnum):
    """What a recomputation says of the cache that an answer was computed on."""

    WRONG = "cache_wrong"
    RIGHT = "cache_right"
    UNDECIDED = "undecided"


class Rescored(msgspec.Struct, frozen=True):
    """
    A re-scoring and what it came to.

    Args:
        verdict: On the cache.
        reason: Why it is undecided, or what decided.
        tokens: Emitted tokens that were scored again. Unit: tokens.
        prefill: Tokens that the backend had to read for it. Unit: tokens.
        mean_difference: Of the tokens' log-probabilities, absolute. Unit: nats.
        max_difference: The largest one. Unit: nats.
        mean_logprob: Of the emitted tokens, as computed again: very low where sampler or weights are at fault, which
            leaves the difference near zero. Unit: nats.
        wrong_at: Token at which the cache was proven wrong.
        replica: Where it was computed again.
        seconds: From asking to knowing, waiting included.
    """

    verdict: CacheVerdict
    reason: str
    tokens: int = 0
    prefill: int = 0
    mean_difference: float = 0.0
    max_difference: float = 0.0
    mean_logprob: float = 0.0
    wrong_at: int | None = None
    replica: str = ""
    seconds: float = 0.0


def undecided(reason: str) -> Rescored:
    """Nothing was found out."""
    return Rescored(CacheVerdict.UNDECIDED, reason)


def differences_of(emitted: Sequence[float], again: Sequence[float]) -> list[float]:
    """
    How far apart the two are, token by token. Unit: nats.

    Raises:
        ValueError: They are not of the same tokens.
    """
    return [abs(a - b) for a, b in zip(emitted, again, strict=True)]


def compare(
    emitted: Sequence[float],
    again: Sequence[float],
    floor: Floor,
    *,
    onset: int = 0,
    alpha: float = 1e-3,
    beta: float = 0.02,
) -> Rescored:
    """
    Judge one answer.

    Args:
        emitted: Log-probability of each emitted token, as told with it. Unit: nats.
        again: The same, computed again. Unit: nats.
        floor: The deployment's.
        onset: First token that is suspected.
        alpha: Most chance of calling a right cache wrong.
        beta: Most chance of calling a wrong cache right.

    Raises:
        ValueError: The two are not of the same tokens.
    """
    differences = differences_of(emitted, again)
    if not differences:
        return undecided("there are no tokens to score")
    test = SequentialTest(floor, len(differences), onset=onset, alpha=alpha, beta=beta)
    test.add_all(differences)
    mean, most = sum(differences) / len(differences), max(differences)
    if test.wrong_at is not None:
        verdict = CacheVerdict.WRONG
        reason = f"log-probabilities differ by {mean:.3f} in the mean, {most:.2f} at most, from a clean recomputation"
    elif test.right:
        verdict = CacheVerdict.RIGHT
        reason = f"a clean recomputation gives the same log-probabilities (mean difference {mean:.4f})"
    else:
        verdict, reason = CacheVerdict.UNDECIDED, f"{len(differences)} tokens are too few to tell"
    return Rescored(
        verdict,
        reason,
        tokens=len(differences),
        mean_difference=round(mean, 5),
        max_difference=round(most, 4),
        mean_logprob=round(sum(again) / len(again), 4),
        wrong_at=test.wrong_at,
    )
