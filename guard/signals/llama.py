"""
llama.cpp: cumulative draft counters in each chunk.

With `timings_per_token` every chunk carries `timings.{predicted_n, draft_n, draft_n_accepted}`,
cumulative over the request. The counters move with the first token of a verify step; its other
tokens follow in chunks of their own with the counters unchanged. So a step is known, and reported,
with its first token:

    predicted_n  1        2    3    4    5
    draft_n      absent   3    3    6    9
    accepted     absent   1    1    1    1
    step         -        1/3  .    0/3  0/3

Traps: the first token has no draft and no counters; a chunk is held back while its text ends
inside a character, so that tokens of several steps can come at once; the step that ends with the
end-of-text token shows only in the closing chunk, which may have no choices.

Source:
    llama.cpp tools/server/server-context.cpp, server-task.cpp (`result_timings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from guard.signals.base import Json, Texts
from guard.types import Channel, Sample, StepAcceptance
from guard.wire import Chunk, Timings

_SWITCHES: Mapping[str, Json] = {"timings_per_token": True}
_NO_TEXT: Final[tuple[tuple[Channel, str], ...]] = ()
#: Most that a counter can move within one chunk: a context's worth of tokens would have to come without text.
#: Unit: tokens.
_MOST: Final = 8192


class _Counters:
    """The counters of one choice. Unit: tokens."""

    __slots__ = ("accepted", "deepest", "drafted", "owed", "predicted")

    def __init__(self) -> None:
        self.predicted = 0
        self.drafted = 0
        self.accepted = 0
        self.owed = 0  # tokens of the latest step still to come
        self.deepest = 0  # most tokens seen drafted in one step


class LlamaAdapter:
    """Differences the counters."""

    def __init__(self) -> None:
        self._choices: dict[int, _Counters] = {}
        self._index = 0  # the choice spoken of last

    def switches(self) -> Mapping[str, Json]:
        """Ask for the counters in each chunk."""
        return _SWITCHES

    def observe(self, chunk: Chunk, texts: Texts) -> list[Sample]:
        """See SignalAdapter. A closing chunk without choices is of the choice that ended last."""
        timings = chunk.timings
        if not chunk.choices:
            if timings is None:
                return []
            index = self._index
            tokens, steps = self._advance(index, timings)
            return [Sample(index, _NO_TEXT, tokens, steps)] if tokens or steps else []
        samples: list[Sample] = []
        for choice in chunk.choices:
            said = texts(choice)
            self._index = choice.index
            if timings is None:
                if said:
                    samples.append(Sample(choice.index, said, 1))
                continue
            tokens, steps = self._advance(choice.index, timings)
            if said or tokens or steps:
                samples.append(Sample(choice.index, said, tokens, steps))
        return samples

    def finish(self) -> list[Sample]:
        """Nothing is open: steps are reported with their first token."""
        return []

    def _advance(self, index: int, timings: Timings) -> tuple[int, tuple[StepAcceptance, ...]]:
        """Tokens and steps since the last chunk of this choice."""
        at = self._choices.get(index)
        if at is None:
            at = self._choices[index] = _Counters()
        tokens = timings.predicted_n - at.predicted
        drafted = timings.draft_n - at.drafted
        accepted = timings.draft_n_accepted - at.accepted
        at.predicted = timings.predicted_n
        at.drafted = timings.draft_n
        at.accepted = timings.draft_n_accepted
        if not (0 <= tokens <= _MOST and 0 <= accepted <= drafted <= _MOST):
            at.owed = 0  # another request's counters, or none at all: start over from here
            return 1, ()
        if drafted == 0:
            return tokens, self._undrafted(at, tokens)
        fresh = tokens - at.owed
        steps = _split(accepted, drafted, fresh, at.deepest)
        at.deepest = max(at.deepest, *(step.drafted for step in steps))
        at.owed = max(accepted + len(steps) - fresh, 0)
        return tokens, steps

    def _undrafted(self, at: _Counters, tokens: int) -> tuple[StepAcceptance, ...]:
        """Tokens beyond those owed came one by one, without a draft; told once drafting was seen."""
        extra = tokens - at.owed
        if extra <= 0:
            at.owed = -extra
            return ()
        at.owed = 0
        return (StepAcceptance(0, 0, 1, True),) * extra if at.drafted else ()


def _split(accepted: int, drafted: int, fresh: int, deepest: int) -> tuple[StepAcceptance, ...]:
    """
    The verify steps behind one move of the counters.

    Args:
        accepted: Tokens accepted since the last chunk.
        drafted: Tokens drafted since.
        fresh: Tokens that came since and belong to none of the steps before. Unit: tokens.
        deepest: Most tokens drafted in one step so far, 0 when none was seen.

    Returns:
        One exact step in the normal case. When tokens of several steps came at once, their least
        possible number with the counts spread evenly, marked not exact.
    """
    count = 1
    if fresh > 1:
        by_tokens = fresh - accepted  # each step emits its accepted tokens and one more
        by_depth = -(-drafted // deepest) if deepest else 1
        count = max(1, min(max(by_tokens, by_depth), drafted))
    if count == 1:
        return (StepAcceptance(accepted, drafted, accepted + 1, True),)
    steps = []
    for number in range(count):
        kept = accepted * (number + 1) // count - accepted * number // count
        tried = drafted * (number + 1) // count - drafted * number // count
        kept = min(kept, tried)
        steps.append(StepAcceptance(kept, tried, kept + 1, False))
    return tuple(steps)
