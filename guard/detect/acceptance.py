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
from guard.detect.step_window import Slack, StepWindow, step_of
from guard.types import StepAcceptance, Window

#: Evidence for a fall from which what is measured is no measure. Unit: nats.
DOUBT: Final = 5.0
#: The change point looks for acceptance at this share of the reference.
FALLEN_SHARE: Final = 0.35

Windows = Sequence[Window | None]


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
        entry = step_of(accepted, rejected, drafted, tokens)
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
