"""What the attempts of an exchange said, for a recorder. There is none unless one is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from guard.core.record import AttemptRecord
from guard.types import Sample

#: Most samples and characters kept of one exchange, some 1.5 MB; what comes later is left out.
MAX_SAMPLES = 4096
MAX_CHARACTERS = 256 * 1024


class Tapes:
    """
    Samples by attempt, bounded over the whole exchange.

    Args:
        logprobs: Keep log-probabilities too, where the backend tells them.
    """

    def __init__(self, *, logprobs: bool = False) -> None:
        self.logprobs = logprobs
        self.attempts: list[tuple[AttemptRecord, list[Sample]]] = []
        self._samples = MAX_SAMPLES
        self._characters = MAX_CHARACTERS

    def begin(self, record: AttemptRecord) -> None:
        """What is added from now on belongs to this attempt."""
        self.attempts.append((record, []))

    def add(self, samples: Sequence[Sample]) -> None:
        """Keep the samples of one chunk, while there is room."""
        kept = self.attempts[-1][1]
        for sample in samples:
            self._samples -= 1
            for _, text in sample.texts:
                self._characters -= len(text)
            if self._samples < 0 or self._characters < 0:
                return
            kept.append(sample)
