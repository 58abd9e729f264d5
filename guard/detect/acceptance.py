"""
Acceptance of drafted tokens, over windows and against a reference.

A step that drafted nothing says nothing about acceptance and is left out everywhere but in
`undrafted`. The per-position probability divides by the positions the target model really judged
(those kept, plus the first one rejected), so drafts of different depth can be compared.

A step of unknown depth (`drafted` = -1) counts as ended by a rejection unless it kept as many as
the deepest step of the stream so far (or the baseline's k). A step without any draft then reads as
a rejection too: the probability comes out too low, never too high. That is why no shipped rule
acts on acceptance alone. It is left out of `acceptance_rate`, which needs the number drafted.

Where `_steps.c` is compiled, it does what `Acceptance` and its windows do, number by number (`measured`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from guard.detect.baseline import Baseline
from guard.detect.step_window import Slack, StepWindow, step_of
from guard.types import StepAcceptance, Unit, Window

try:
    from guard.detect import _steps
except ImportError:
    _steps = None  # type: ignore[assignment]

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

    def take(self, steps: tuple[StepAcceptance, ...], before: int, after: int) -> None:
        """
        Take in verify steps of one chunk.

        Args:
            steps: In their order.
            before: Tokens of the choice before the chunk.
            after: The same after it.
        """
        end = before
        for step in steps[:-1]:  # of a step among several the end is not told, but it is this or a little later
            end += step.tokens
            self.add(step, end if end < after else after)
        if steps:
            self.add(steps[-1], after)

    def take_counts(self, counts: bytes, before: int, after: int) -> None:
        """
        Take in verify steps of chunks that have one each.

        Args:
            counts: Of each, tokens that its step accepted and drafted, and those of its chunk, one byte each.
            before: Tokens of the choice before the chunks.
            after: The same after them.
        """
        self.take(tuple([_step(counts[at : at + 3]) for at in range(0, len(counts), 3)]), before, after)

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
        return max(0, tokens - self.windows[window].tokens) if window is not None else 0


def _step(counts: bytes) -> StepAcceptance:
    accepted, drafted, tokens = counts
    # The last step of an answer may be cut: none emitted more than its chunk holds.
    return StepAcceptance(accepted, drafted, accepted + 1 if accepted < tokens else tokens, True)


def measured(windows: Windows, falls: Windows, baseline: Baseline | None) -> Measured:
    """The acceptance windows of one choice, in C where that is compiled. Arguments as of Acceptance."""
    if _steps is None:
        return Acceptance(windows, falls, baseline)
    usable = baseline is not None and baseline.usable
    probability = baseline.probability if baseline is not None and usable else math.nan
    first = next((windows.index(window) for window in falls if window is not None), -1)
    specs = tuple(
        (window, window.size if window else 0, window is not None and window.unit is Unit.TOKENS, window in falls)
        for window in windows
    )
    deepest = baseline.k if baseline is not None and usable else 0
    return _steps.Acceptance(specs, probability, first if math.isnan(probability) else -1, deepest)


def slack_of(name: str, window: Readings, *, rising: bool) -> Callable[[float, int], Slack] | None:
    """
    How far a reading is from a bound, whatever leaves its window while the next tokens come.

    Args:
        name: Of the signal.
        window: The same.
        rising: Whether it passes the bound when it rises above it, not when it sinks below.

    Returns:
        From the bound and the most tokens that will come: slack and share. While the slack, to which each step adds
        accepted - share * judged, is not below 0, the reading has not passed its bound. The slack is infinite where it
        cannot, below 0 where nothing is known. None where nothing ever is.
    """
    if not rising:
        return window.sink_slack if name == "acceptance_probability" else None
    if name == "acceptance_fall":
        return window.fall_slack
    if name == "acceptance_drop":
        return window.drop_slack
    return window.rise_slack if name == "acceptance_probability" else None


if TYPE_CHECKING:
    #: All windows of one choice, and one of them.
    Measured = Acceptance | _steps.Acceptance
    Readings = StepWindow | _steps.Window
