"""
The healthy floors of re-scoring, by model: measured here, and by all guards that share a store.

A guard that has just started, or started again, takes them over instead of measuring them anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from guard.rescore.floor import EDGES, FloorLearner, count_beyond
from guard.state.store import StateStore, Tally

#: Models whose floors are kept.
MAX_MODELS = 256


class Floors:
    """
    One learner for each model.

    Args:
        answers: Healthy answers after which a floor is settled.
    """

    def __init__(self, answers: int) -> None:
        self._answers = answers
        self._learners: dict[str, FloorLearner] = {}
        #: Answers that the other guards have not been told of, and the fleet's as last seen.
        self._unshared: dict[str, list[Tally]] = {}
        self._seen: dict[str, tuple[Tally, ...]] = {}

    @property
    def settled(self) -> int:
        """Models whose floor was measured."""
        return sum(floor.settled for floor in self._learners.values())

    def of(self, model: str) -> FloorLearner:
        """The healthy floor of a model."""
        learner = self._learners.get(model)
        if learner is None:
            learner = FloorLearner(self._answers)
            if len(self._learners) < MAX_MODELS:
                self._learners[model] = learner
        return learner

    def take(self, model: str, learner: FloorLearner) -> None:
        """A floor that was measured elsewhere."""
        self._learners[model] = learner

    def add(self, model: str, differences: Sequence[float]) -> None:
        """Take in one healthy answer."""
        learner, counts = self.of(model), count_beyond(differences)
        learner.count(counts, len(differences))
        if model in self._learners:
            self._unshared.setdefault(model, []).append((*counts, len(differences)))

    async def share(self, store: StateStore) -> None:
        """Tell the store what was measured since the last time, and take over what all guards have measured."""
        for model in list(self._learners):
            tallies = await store.share_tallies(model, self._unshared.pop(model, []))
            if tallies == self._seen.get(model, ()):
                continue
            self._seen[model] = tallies
            learner = FloorLearner(self._answers)
            # Answers may have been scored meanwhile; they are told the next time.
            for *counts, tokens in (*tallies, *self._unshared.get(model, ())):
                if len(counts) == len(EDGES):  # a guard of another version may tell others apart
                    learner.count(counts, tokens)
            self._learners[model] = learner
