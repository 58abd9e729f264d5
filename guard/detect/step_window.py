"""
A window over the verify steps of a stream, and what its readings are measured against.

A step is kept as one tuple for all windows of all streams: there are few different ones, and what leaves a window is
then still in the processor's caches, where a tuple of its own would long have left them.
"""

from __future__ import annotations

import math
from typing import Any, Final

from guard.detect.reference import History
from guard.types import Unit, Window

#: Positions at the reference added to a window, so that a handful of steps cannot look like a fall.
PRIOR: Final = 4.0
#: A baseline below this leaves no room for a fall: the draft is weak, the stream is not at fault.
LEAST_BASELINE: Final = 0.15
#: The same for the stream's own history, which rests on far fewer positions.
LEAST_HISTORY: Final = 0.3
#: Steps that have left a window before the room they take is given back.
_SLACK: Final = 16
#: Drafted and emitted tokens of a step, and accepted ones, up to which it is kept for all streams.
_WIDE: Final = 16
_DEEP: Final = 8

#: Accepted, rejected, drafted and tokens of a step.
Step = tuple[int, int, int, int]
#: A step as it is kept: of a known type, a compiled build would take it apart and make another tuple each time.
Kept = Any
#: Slack and share, see `guard.detect.acceptance.slack_of`.
Slack = tuple[float, float]

#: Steps met so far, by what they hold.
_KNOWN: Final[list[Kept]] = [None] * (2 * _DEEP * _WIDE * _WIDE)


def step_of(accepted: int, rejected: int, drafted: int, tokens: int) -> Kept:
    """A step; the same object for the same one, unless it is a deep one."""
    # Unknown depth is -1; the other counts are never below 0.
    if accepted >= _DEEP or tokens >= _WIDE or drafted >= _WIDE - 1 or drafted < -1:
        return (accepted, rejected, drafted, tokens)
    place = ((accepted * _WIDE + drafted + 1) * _WIDE + tokens) * 2 + rejected
    known = _KNOWN[place]
    if known is None:
        # From a list: of a literal, a compiled build would make one tuple to keep and another to return.
        known = _KNOWN[place] = tuple([accepted, rejected, drafted, tokens])  # noqa: C409
    return known


class Tally:
    """Exact sums over a set of verify steps."""

    __slots__ = ("accepted", "drafted", "known", "rejected", "steps", "tokens", "undrafted")

    def __init__(self) -> None:
        self.accepted = self.rejected = 0
        self.drafted = self.known = 0
        self.steps = self.undrafted = self.tokens = 0

    def add(self, accepted: int, rejected: int, drafted: int, tokens: int) -> None:
        """Add one step."""
        self.tokens += tokens
        if drafted == 0:
            self.undrafted += 1
            return
        self.steps += 1
        self.accepted += accepted
        self.rejected += rejected
        if drafted > 0:
            self.drafted += drafted
            self.known += accepted

    def remove(self, accepted: int, rejected: int, drafted: int, tokens: int) -> None:
        """Take one step out again."""
        self.tokens -= tokens
        if drafted == 0:
            self.undrafted -= 1
            return
        self.steps -= 1
        self.accepted -= accepted
        self.rejected -= rejected
        if drafted > 0:
            self.drafted -= drafted
            self.known -= accepted

    def length(self) -> float:
        """Mean tokens per step that drafted, the bonus token included."""
        return 1.0 + self.accepted / self.steps if self.steps else math.nan

    def rate(self) -> float:
        """Accepted over drafted, of the steps whose depth is known."""
        return self.known / self.drafted if self.drafted else math.nan

    def probability(self) -> float:
        """Chance that one judged position was kept."""
        judged = self.accepted + self.rejected
        return self.accepted / judged if judged else math.nan

    def undrafted_share(self) -> float:
        """Share of the steps that had no draft."""
        steps = self.steps + self.undrafted
        return self.undrafted / steps if steps else math.nan


class StepWindow:
    """
    The latest steps of a stream, or all of them.

    Args:
        window: Size in tokens or steps; None for the whole stream.
        remember: Keep a history of what has left the window.
        baseline: The deployment's healthy probability; nan to use this stream's own earlier part.
    """

    def __init__(self, window: Window | None, *, remember: bool = False, baseline: float = math.nan) -> None:
        self._size = window.size if window else 0
        self._by_tokens = window is not None and window.unit is Unit.TOKENS
        self._bounded = window is not None
        self._baseline = baseline
        self._alone = math.isnan(baseline)
        #: Those before `_first` have left.
        self._steps: list[Kept] = []
        self._first = 0
        self.tally = Tally()
        self.history = History() if remember else None
        self.full = not self._bounded
        #: A fall is under way, so that what leaves the window is doubtful as a measure.
        self.doubt = False

    def add(self, step: Kept, accepted: int, rejected: int, drafted: int, tokens: int) -> None:
        """Take in the newest step, with what it holds, and let go of those that are now too old."""
        tally = self.tally
        tally.add(accepted, rejected, drafted, tokens)
        if not self._bounded:
            return
        steps = self._steps
        steps.append(step)
        first = self._first
        if self._by_tokens:
            excess = tally.tokens - self._size
            while excess >= 0:
                oldest: Step = steps[first]
                accepted, rejected, drafted, tokens = oldest
                if excess < tokens:
                    break
                excess -= tokens
                self._drop(accepted, rejected, drafted, tokens)
                first += 1
            self.full = excess >= 0
        else:
            while len(steps) - first > self._size:
                gone: Step = steps[first]
                accepted, rejected, drafted, tokens = gone
                self._drop(accepted, rejected, drafted, tokens)
                first += 1
            self.full = len(steps) - first >= self._size
        if first >= _SLACK:
            del steps[:first]
            first = 0
        self._first = first

    def _drop(self, accepted: int, rejected: int, drafted: int, tokens: int) -> None:
        self.tally.remove(accepted, rejected, drafted, tokens)
        if self.history is not None and drafted != 0:
            self.history.add(accepted, rejected, doubt=self.doubt)

    def reference(self) -> float:
        """What a fall is measured against: the baseline, unless the stream has long been below it; or nan."""
        history, baseline = self.history, self._baseline
        if history is None:
            return baseline
        reference = history.reference
        return reference if self._alone or (history.trusted and reference < baseline) else baseline

    def fall(self) -> float:
        """
        How far acceptance has fallen below its reference, in [0, 1].

        Returns:
            1 - probability / reference; nan while either is unknown.
        """
        reference = self.reference()
        return self._below(reference, LEAST_BASELINE if reference == self._baseline else LEAST_HISTORY)

    def drop(self) -> float:
        """The same against nothing but the stream's own earlier part: what was low from the first token on is none."""
        return self._below(self.own, LEAST_HISTORY)

    @property
    def tokens(self) -> int:
        """Tokens in the window."""
        return self.tally.tokens

    def told(self) -> tuple[float, float]:
        """Probability and length as they are, also of a window that is not full."""
        return self.tally.probability(), self.tally.length()

    @property
    def own(self) -> float:
        """What this stream's own earlier part was like; nan while unknown."""
        return self.history.reference if self.history is not None else math.nan

    def _below(self, reference: float, least: float) -> float:
        tally = self.tally
        judged = tally.accepted + tally.rejected
        if not self.full or judged == 0 or math.isnan(reference):
            return math.nan
        if reference < least:
            return 0.0
        fallen = 1.0 - (tally.accepted + PRIOR * reference) / (judged + PRIOR) / reference
        return 0.0 if fallen < 0.0 else min(fallen, 1.0)

    def fall_slack(self, bound: float, ahead: int) -> Slack:
        """See `slack_of`, for a fall above `bound`: the higher the reference, the deeper the fall."""
        reference, history = self._baseline, self.history
        if history is not None and (self._alone or self.reference() != reference):
            highest = history.highest()
            reference = highest if self._alone or highest < reference else reference
        return self._slack_below(reference, bound, ahead)

    def drop_slack(self, bound: float, ahead: int) -> Slack:
        """The same for a drop above `bound`."""
        return self._slack_below(self.history.highest() if self.history is not None else math.nan, bound, ahead)

    def _slack_below(self, reference: float, bound: float, ahead: int) -> Slack:
        if math.isnan(reference):
            # Of what no fall is from the most that it may become, none is from anything below.
            reference = self.history.soon(self._leaving(ahead)) if self.history is not None else math.nan
        if math.isnan(reference) or reference < LEAST_BASELINE:
            return math.inf, 0.0
        share = (1.0 - bound) * reference
        return self.slack(share, PRIOR * (reference - share), ahead)

    def sink_slack(self, bound: float, ahead: int) -> Slack:
        """The same for a probability below `bound`: what is rejected takes it there."""
        return self.slack(bound, 0.0, ahead)

    def slack(self, share: float, base: float, ahead: int) -> Slack:
        """See `slack_of`: for accepted + base < share * judged, by the worst that may leave the window."""
        if self._bounded and self._size < ahead:
            return -1.0, 0.0  # what comes would leave as well
        if self._bounded and self._by_tokens and self.tally.tokens + ahead < self._size:
            return math.inf, 0.0  # not full by then
        return base + self._extremes(share, ahead)[0], share

    def rise_slack(self, share: float, ahead: int) -> Slack:
        """See `slack_of`: for a probability above `share`, all that comes accepted and the worst gone."""
        if self._bounded and self._size < ahead:
            return -1.0, 0.0
        return (-1.0 if self._extremes(share, ahead)[1] + (1.0 - share) * ahead > 0.0 else math.inf), 0.0

    def _extremes(self, share: float, ahead: int) -> tuple[float, float]:
        """The least and the most of accepted - share * judged, by what leaves the window while `ahead` tokens come."""
        tally = self.tally
        value = tally.accepted - share * (tally.accepted + tally.rejected)
        least = most = value
        for accepted, rejected in self._leaving(ahead):
            value -= accepted - share * (accepted + rejected)
            least, most = min(least, value), max(most, value)
        return least, most

    def _leaving(self, ahead: int) -> list[tuple[int, int]]:
        """Accepted and rejected tokens of the steps with a draft that leave the window while `ahead` tokens come."""
        found: list[tuple[int, int]] = []
        if not self._bounded:
            return found
        tally, steps, place = self.tally, self._steps, self._first
        left = ahead + (tally.tokens if self._by_tokens else tally.steps + tally.undrafted) - self._size
        while place < len(steps):
            step: Step = steps[place]
            accepted, rejected, drafted, tokens = step
            left -= tokens if self._by_tokens else 1
            if left < 0:
                break
            place += 1
            if drafted:
                found.append((accepted, rejected))
        return found

    def length(self) -> float:
        """Mean tokens per step that drafted; nan until the window is full, as of all that follow."""
        return self.tally.length() if self.full else math.nan

    def rate(self) -> float:
        """Accepted over drafted."""
        return self.tally.rate() if self.full else math.nan

    def probability(self) -> float:
        """Chance that one judged position was kept."""
        return self.tally.probability() if self.full else math.nan

    def undrafted(self) -> float:
        """Share of the steps that had no draft."""
        return self.tally.undrafted_share() if self.full else math.nan
