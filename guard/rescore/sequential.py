"""
A sequential test over tokens: does an answer differ from its recomputation more than a healthy one does?

Against "healthy": a bet for each edge of the floor and each of a few shares. A bet multiplies its stake by `q / p` for
a token beyond its edge and by `(1 - q) / (1 - p)` for any other, where `p` bounds the healthy share from above. While
the cache is right no bet can be expected to gain, wherever it begins; so neither can their mean, over all tokens at
which the fault may have begun. It passes `1 / alpha` with a chance of at most `alpha`, however often one looks
(Ville's inequality).

Against "corrupted": the same the other way round, on the tokens from the suspected onset: if at least WRONG_SHARE of
them were beyond the edge, the stake would pass `1 / beta` with a chance of at most `beta`.

Both hold if the chance that the next token is beyond an edge, whatever came before, is as the floor has it. Differences
that come in clusters make the first bound too good; the floor's margins and a small alpha are the answer to that.

Source:
    Shafer, "Testing by betting" (2021), for the bets; Wald, "Sequential tests of statistical hypotheses" (1945).
"""

from __future__ import annotations

from collections.abc import Sequence

from guard.rescore.floor import EDGES, Floor

#: Shares of tokens beyond an edge that are bet on.
SHARES = (0.05, 0.25, 0.6)
#: A cache is called right only if a fault that shows in this share of the tokens would have been seen.
WRONG_SHARE = 0.1
#: Stakes are cut here, far beyond any bound.
_MOST = 1e30


class SequentialTest:
    """
    One answer, token by token.

    Args:
        floor: The deployment's.
        tokens: Most tokens that will be added.
        onset: First token that is suspected.
        alpha: Most chance of calling a right cache wrong.
        beta: Most chance of calling a wrong cache right.

    Raises:
        ValueError: An error rate does not lie between 0 and 1.
    """

    def __init__(self, floor: Floor, tokens: int, *, onset: int = 0, alpha: float = 1e-3, beta: float = 0.02) -> None:
        if not (0 < alpha < 1 and 0 < beta < 1):
            raise ValueError(f"error rates lie between 0 and 1, not {alpha} and {beta}")
        self._onset = onset
        self._bound, self._clear_bound = 1 / alpha, 1 / beta
        self._bets: list[list[float]] = []  # edge, factor beyond it, factor below it, stake
        for edge, tail in zip(EDGES, floor.tails, strict=True):
            for share in SHARES:
                if share > 2 * tail:
                    self._bets.append([edge, share / tail, (1 - share) / (1 - tail), 0.0])
        self._entry = 1 / (max(tokens, 1) * max(len(self._bets), 1))
        self._waiting = 1.0
        self._step = 1 / max(tokens, 1)
        self._clear_edge, self._seen, self._unseen = _clearing(floor)
        self._clear = 1.0
        self._tokens = 0
        #: Token at which the cache was proven wrong; None while it is not.
        self.wrong_at: int | None = None
        #: Whether a corruption would have been seen.
        self.right = False
        #: Evidence against the cache: passes 1 / alpha by chance with a chance of at most alpha.
        self.evidence = 1.0

    def add(self, difference: float) -> None:
        """Take the next token's difference. Unit: nats."""
        total = 0.0
        for bet in self._bets:
            factor = bet[1] if difference > bet[0] else bet[2]
            bet[3] = min((bet[3] + self._entry) * factor, _MOST)
            total += bet[3]
        self._waiting = max(self._waiting - self._step, 0.0)
        self.evidence = max(self.evidence, total + self._waiting)
        if self.wrong_at is None and self.evidence >= self._bound:
            self.wrong_at = self._tokens
        if self._tokens >= self._onset and self._clear_edge is not None:
            self._clear = min(self._clear * (self._seen if difference > self._clear_edge else self._unseen), _MOST)
            self.right = self.right or self._clear >= self._clear_bound
        self._tokens += 1

    def add_all(self, differences: Sequence[float]) -> None:
        """All tokens, in order."""
        for difference in differences:
            self.add(difference)


def _clearing(floor: Floor) -> tuple[float | None, float, float]:
    """The lowest edge that tells WRONG_SHARE from the floor, and the factors of a token beyond and below it."""
    for edge, tail in zip(EDGES, floor.tails, strict=True):
        if tail * 4 <= WRONG_SHARE:
            return edge, tail / WRONG_SHARE, (1 - tail) / (1 - WRONG_SHARE)
    return None, 1.0, 1.0
