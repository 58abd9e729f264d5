"""
Acceptance of drafted tokens, over windows and against a reference.

A step that drafted nothing says nothing about acceptance and is left out everywhere but in
`undrafted`. The per-position probability divides by the positions the target model really judged
(those kept, plus the first one rejected), so drafts of different depth can be compared.

A step of unknown depth (`drafted` = -1) counts as ended by a rejection unless it kept as many as
the deepest step of the stream so far (or the baseline's k). A step without any draft then reads as
a rejection too: the probability comes out too low, never too high. That is why no shipped rule
acts on acceptance alone. It is left out of `acceptance_rate`, which needs the number drafted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from guard.detect.baseline import Baseline
from guard.detect.reference import History
from guard.types import StepAcceptance, Unit, Window

#: Evidence for a fall from which what is measured is no measure. Unit: nats.
DOUBT: Final = 5.0
#: Positions at the reference added to a window, so that a handful of steps cannot look like a fall.
PRIOR: Final = 4.0
#: A baseline below this leaves no room for a fall: the draft is weak, the stream is not at fault.
LEAST_BASELINE: Final = 0.15
#: The same for the stream's own history, which rests on far fewer positions.
LEAST_HISTORY: Final = 0.3
#: Steps that have left a window before the room they take is given back.
_SLACK: Final = 16
#: The change point looks for acceptance at this share of the reference.
FALLEN_SHARE: Final = 0.35

#: Accepted, rejected, drafted and tokens of a step: one object for all windows, never taken apart and put together.
Step = tuple[int, ...]
#: Slack and share, see `Acceptance.slack`.
Slack = tuple[float, float]
Windows = Sequence[Window | None]


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
        self._steps: list[Step] = []
        self._first = 0
        self.tally = Tally()
        self.history = History() if remember else None
        self.full = not self._bounded
        #: A fall is under way, so that what leaves the window is doubtful as a measure.
        self.doubt = False

    def add(self, step: Step, accepted: int, rejected: int, drafted: int, tokens: int) -> None:
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
                accepted, rejected, drafted, tokens = steps[first]
                if excess < tokens:
                    break
                excess -= tokens
                self._drop(accepted, rejected, drafted, tokens)
                first += 1
            self.full = excess >= 0
        else:
            while len(steps) - first > self._size:
                accepted, rejected, drafted, tokens = steps[first]
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
        """See `Acceptance.slack`, for a fall above `bound`: the higher the reference, the deeper the fall."""
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
            if self.history is None or not self.history.near(ahead):
                return math.inf, 0.0
            reference = 1.0  # once it is known it is no more, and what no fall is from 1 is none from anything below
        if reference < LEAST_BASELINE:
            return math.inf, 0.0
        share = (1.0 - bound) * reference
        return self.slack(share, PRIOR * (reference - share), ahead)

    def slack(self, share: float, base: float, ahead: int) -> Slack:
        """See `Acceptance.slack`: for accepted + base < share * judged, by the worst that may leave the window."""
        if self._bounded and self._size < ahead:
            return -1.0, 0.0  # what comes would leave as well
        if self._bounded and self._by_tokens and self.tally.tokens + ahead < self._size:
            return math.inf, 0.0  # not full by then
        return base + self._extremes(share, ahead)[0], share

    def rise_slack(self, share: float, ahead: int) -> Slack:
        """See `Acceptance.slack`: for a probability above `share`, all that comes accepted and the worst gone."""
        if self._bounded and self._size < ahead:
            return -1.0, 0.0
        return (-1.0 if self._extremes(share, ahead)[1] + (1.0 - share) * ahead > 0.0 else math.inf), 0.0

    def _extremes(self, share: float, ahead: int) -> tuple[float, float]:
        """The least and the most of accepted - share * judged, by what leaves the window while `ahead` tokens come."""
        tally = self.tally
        value = tally.accepted - share * (tally.accepted + tally.rejected)
        least = most = value
        if self._bounded:
            leaving = ahead + (tally.tokens if self._by_tokens else tally.steps + tally.undrafted) - self._size
            for accepted, rejected, drafted, tokens in self._steps[self._first :]:
                leaving -= tokens if self._by_tokens else 1
                if leaving < 0:
                    break
                if drafted:
                    value -= accepted - share * (accepted + rejected)
                    least, most = min(least, value), max(most, value)
        return least, most

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


class ChangePoint:
    """
    Where acceptance last began to fall: a CUSUM of log likelihood ratios over judged positions.

    The sum rises while outcomes fit FALLEN_SHARE of the reference better than the reference, and is
    held at 0 otherwise; the token at which it last stood at 0 is the estimate of the onset.
    """

    def __init__(self) -> None:
        self._reference = math.nan
        self._kept = self._rejected = 0.0
        self._sum = 0.0
        self._onset = 0

    def set_reference(self, reference: float) -> None:
        """Use this healthy probability from now on; nan changes nothing."""
        if reference == self._reference or math.isnan(reference):
            return
        self._reference = reference
        healthy = min(0.95, max(0.05, reference))
        fallen = FALLEN_SHARE * healthy
        self._kept = math.log(fallen / healthy)
        self._rejected = math.log((1.0 - fallen) / (1.0 - healthy))

    def add(self, accepted: int, rejected: int, end_token: int) -> None:
        """Take in one step that ended at `end_token` of the choice."""
        self._sum += accepted * self._kept + rejected * self._rejected
        if self._sum <= 0.0:
            self._sum = 0.0
            self._onset = end_token

    @property
    def evidence(self) -> float:
        """Log likelihood ratio for a fall since it began, at least 0; nan while no reference is known. Unit: nats."""
        return math.nan if math.isnan(self._reference) else self._sum

    @property
    def doubtful(self) -> bool:
        """True while the evidence for a fall is strong."""
        return self._sum >= DOUBT

    @property
    def onset(self) -> int | None:
        """Token of the choice at which the fall began; None while there is none."""
        return self._onset if self._sum > 0.0 else None


class Acceptance:
    """
    All acceptance windows of one choice.

    Args:
        windows: Windows asked for; None stands for the whole stream.
        falls: Those of them that `fall` or `drop` is read from.
        baseline: The deployment's healthy profile, if known.
    """

    def __init__(self, windows: Windows, falls: Windows, baseline: Baseline | None) -> None:
        usable = baseline is not None and baseline.usable
        self.baseline = baseline.probability if baseline is not None and usable else math.nan
        self.windows = {
            window: StepWindow(window, remember=window in falls, baseline=self.baseline) for window in windows
        }
        self._all = tuple(self.windows.values())
        histories = (self.windows[window].history for window in falls if window is not None)
        #: Where the change point's reference comes from, unless there is a baseline: the first that something leaves.
        self._history = next(histories, None) if math.isnan(self.baseline) else None
        self._deepest = baseline.k if baseline is not None and usable else 0
        self._doubts = False
        self._change = ChangePoint()
        self._change.set_reference(self.baseline)

    def add(self, step: StepAcceptance, end_token: int) -> None:
        """Take in one verify step whose chunk ended at `end_token` of the choice."""
        accepted, drafted, tokens = max(step.accepted, 0), step.drafted, step.tokens
        rejected = 0
        if drafted > 0:
            rejected = 1 if accepted < drafted else 0
        elif drafted < 0:
            self._deepest = max(self._deepest, accepted, 1)
            rejected = 1 if accepted < self._deepest else 0
        tokens = tokens if tokens > 1 else 1
        entry: Step = (accepted, rejected, drafted, tokens)
        for window in self._all:
            window.add(entry, accepted, rejected, drafted, tokens)
        if drafted != 0:
            change = self._change
            if self._history is not None:
                change.set_reference(self._history.reference)
            change.add(accepted, rejected, end_token)
            if change.doubtful != self._doubts:
                self._doubts = change.doubtful
                for window in self._all:
                    window.doubt = self._doubts

    def slack(self, name: str, window: Window | None, bound: float, ahead: int, *, rising: bool) -> Slack:
        """
        How far a reading is from its bound, whatever leaves the window while the next tokens come.

        Args:
            name: Of the signal.
            window: The same.
            bound: Of its reading.
            ahead: Most tokens that will come. Unit: tokens.
            rising: Whether it passes the bound when it rises above it, not when it sinks below.

        Returns:
            Slack and share: while the slack, to which each step adds accepted - share * judged, is not below 0, the
            reading has not passed its bound. The slack is infinite where it cannot, below 0 where nothing is known.
        """
        if name == "acceptance_fall" and rising:
            return self.windows[window].fall_slack(bound, ahead)
        if name == "acceptance_drop" and rising:
            return self.windows[window].drop_slack(bound, ahead)
        if name == "acceptance_probability":
            steps = self.windows[window]
            # What is rejected takes it away from a bound above it.
            return steps.rise_slack(bound, ahead) if rising else steps.slack(bound, 0.0, ahead)
        return -1.0, 0.0

    @property
    def evidence(self) -> float:
        """Reading of `acceptance_evidence`."""
        return self._change.evidence

    @property
    def fell(self) -> int | None:
        """Token at which a fall began for which the evidence is strong; None while there is none."""
        return self._change.onset if self._doubts else None

    def onset(self, window: Window | None, tokens: int) -> int:
        """Token at which the fall began, or the start of the window when none is under way."""
        onset = self._change.onset
        if onset is not None:
            return min(onset, tokens)
        return max(0, tokens - self.windows[window].tally.tokens) if window is not None else 0
