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
from bisect import insort
from collections import deque

from guard.detect.baseline import Baseline
from guard.types import StepAcceptance, Unit, Window

#: Verify positions in one block of the stream's own history.
HISTORY_BLOCK = 16
#: Blocks before the stream's own history counts as a reference.
HISTORY_MIN = 2
#: Blocks kept; when full, every second of the sorted blocks goes, which keeps the median.
HISTORY_MAX = 64
#: Blocks after which the stream's own history may speak against a baseline: so long a text that no text
#: rule objected to was not bad, however low its acceptance; its draft is weak.
HISTORY_TRUST = 6
#: Evidence for a fall from which what is measured is no measure. Unit: nats.
DOUBT = 5.0
#: Blocks held back in doubt; after that many the fall is what the draft is like from now on.
DOUBT_MAX = 10
#: Positions at the reference added to a window, so that a handful of steps cannot look like a fall.
PRIOR = 4.0
#: A baseline below this leaves no room for a fall: the draft is weak, the stream is not at fault.
LEAST_BASELINE = 0.15
#: The same for the stream's own history, which rests on far fewer positions.
LEAST_HISTORY = 0.3
#: The change point looks for acceptance at this share of the reference.
FALLEN_SHARE = 0.35


class Tally:
    """Exact sums over a set of verify steps."""

    __slots__ = ("accepted", "drafted", "known", "rejected", "steps", "tokens", "undrafted")

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected = 0
        self.drafted = 0
        self.known = 0
        self.steps = 0
        self.undrafted = 0
        self.tokens = 0

    def add(self, step: tuple[int, int, int, int]) -> None:
        """Add one step: accepted, rejected, drafted, tokens."""
        accepted, rejected, drafted, tokens = step
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

    def remove(self, step: tuple[int, int, int, int]) -> None:
        """Take one step out again."""
        accepted, rejected, drafted, tokens = step
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


class History:
    """The stream's own earlier acceptance, as the median over blocks: a bad stretch cannot drag it far."""

    def __init__(self) -> None:
        self._accepted = 0
        self._judged = 0
        self._blocks: list[float] = []
        self._doubtful: list[float] = []
        self.reference = math.nan
        self.trusted = False

    def add(self, accepted: int, rejected: int, *, doubt: bool = False) -> None:
        """
        Take in one step that has left the window.

        Args:
            accepted: Draft tokens it kept.
            rejected: 1 when it ended in a rejection.
            doubt: A fall is under way: the block counts only once it is over, or has lasted long.
        """
        self._accepted += accepted
        self._judged += accepted + rejected
        if self._judged < HISTORY_BLOCK:
            return
        self._doubtful.append(self._accepted / self._judged)
        self._accepted = self._judged = 0
        if not doubt or len(self._doubtful) > DOUBT_MAX or len(self._blocks) < HISTORY_MIN:
            for block in self._doubtful:
                self._take(block)
            self._doubtful.clear()

    def _take(self, block: float) -> None:
        insort(self._blocks, block)
        if len(self._blocks) > HISTORY_MAX:
            self._blocks = self._blocks[::2]
        self.trusted = len(self._blocks) >= HISTORY_TRUST
        if len(self._blocks) >= HISTORY_MIN:
            # The upper median: a bad stretch that has begun to leave the window does not drag it down at once.
            self.reference = self._blocks[len(self._blocks) // 2]


class StepWindow:
    """
    The latest steps of a stream, or all of them.

    Args:
        window: Size in tokens or steps; None for the whole stream.
        remember: Keep a history of what has left the window.
    """

    def __init__(self, window: Window | None, *, remember: bool = False) -> None:
        self._size = window.size if window else 0
        self._by_tokens = window is not None and window.unit is Unit.TOKENS
        self._bounded = window is not None
        self._steps: deque[tuple[int, int, int, int]] = deque()
        self.tally = Tally()
        self.history = History() if remember else None
        self.full = not self._bounded
        #: A fall is under way, so that what leaves the window is doubtful as a measure.
        self.doubt = False

    def add(self, step: tuple[int, int, int, int]) -> None:
        """Take in the newest step and let go of those that are now too old."""
        tally = self.tally
        tally.add(step)
        if not self._bounded:
            return
        steps = self._steps
        steps.append(step)
        if self._by_tokens:
            excess = tally.tokens - self._size
            while excess >= steps[0][3]:
                excess -= steps[0][3]
                self._drop()
            self.full = excess >= 0
        else:
            while len(steps) > self._size:
                self._drop()
            self.full = len(steps) >= self._size

    def _drop(self) -> None:
        old = self._steps.popleft()
        self.tally.remove(old)
        if self.history is not None and old[2] != 0:
            self.history.add(old[0], old[1], doubt=self.doubt)

    def reference(self, baseline: float) -> float:
        """What a fall is measured against: the baseline, unless the stream has long been below it; or nan."""
        history = self.history
        if history is None:
            return baseline
        if math.isnan(baseline):
            return history.reference
        return min(baseline, history.reference) if history.trusted else baseline

    def fall(self, baseline: float) -> float:
        """
        How far acceptance has fallen below its reference, in [0, 1].

        Args:
            baseline: The deployment's healthy probability; nan to use this stream's own earlier part.

        Returns:
            1 - probability / reference; nan while either is unknown.
        """
        reference = self.reference(baseline)
        least = LEAST_BASELINE if reference == baseline else LEAST_HISTORY
        tally = self.tally
        judged = tally.accepted + tally.rejected
        if math.isnan(reference) or not self.full or judged == 0:
            return math.nan
        if reference < least:
            return 0.0
        probability = (tally.accepted + PRIOR * reference) / (judged + PRIOR)
        return min(1.0, max(0.0, 1.0 - probability / reference))


class ChangePoint:
    """
    Where acceptance last began to fall: a CUSUM of log likelihood ratios over judged positions.

    The sum rises while outcomes fit FALLEN_SHARE of the reference better than the reference, and is
    held at 0 otherwise; the token at which it last stood at 0 is the estimate of the onset.
    """

    def __init__(self) -> None:
        self._reference = math.nan
        self._kept = 0.0
        self._rejected = 0.0
        self._sum = 0.0
        self._onset = 0

    def set_reference(self, reference: float) -> None:
        """Use this healthy probability from now on; nan changes nothing."""
        if math.isnan(reference) or reference == self._reference:
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
        falls: Those of them that `fall` is read from.
        baseline: The deployment's healthy profile, if known.
    """

    def __init__(self, windows: set[Window | None], falls: set[Window | None], baseline: Baseline | None) -> None:
        self.windows = {window: StepWindow(window, remember=window in falls) for window in windows | falls}
        self._all = tuple(self.windows.values())
        self._history = next((w.history for w in self._all if w.history is not None), None)
        usable = baseline is not None and baseline.usable
        self.baseline = baseline.probability if baseline is not None and usable else math.nan
        self._deepest = baseline.k if baseline is not None and usable else 0
        self._doubts = False
        self._change = ChangePoint()
        self._change.set_reference(self.baseline)

    def add(self, step: StepAcceptance, end_token: int) -> None:
        """Take in one verify step whose chunk ended at `end_token` of the choice."""
        accepted, drafted = max(0, step.accepted), step.drafted
        if drafted == 0:
            rejected = 0
        elif drafted > 0:
            rejected = 1 if accepted < drafted else 0
        else:
            self._deepest = max(self._deepest, accepted, 1)
            rejected = 1 if accepted < self._deepest else 0
        entry = (accepted, rejected, drafted, max(1, step.tokens))
        for window in self._all:
            window.add(entry)
        if drafted != 0:
            if self._history is not None and math.isnan(self.baseline):
                self._change.set_reference(self._history.reference)
            self._change.add(accepted, rejected, end_token)
            self._doubt(self._change.doubtful)

    def _doubt(self, doubtful: bool) -> None:
        if self._doubts != doubtful:
            self._doubts = doubtful
            for window in self._all:
                window.doubt = doubtful

    def fall(self, window: Window | None) -> float:
        """Reading of `acceptance_fall` over one window."""
        return self.windows[window].fall(self.baseline)

    @property
    def evidence(self) -> float:
        """Reading of `acceptance_evidence`."""
        return self._change.evidence

    def reference(self, window: Window | None) -> float:
        """What a fall is measured against; nan while unknown."""
        return self.windows[window].reference(self.baseline)

    def onset(self, window: Window | None, tokens: int) -> int:
        """Token at which the fall began, or the start of the window when none is under way."""
        onset = self._change.onset
        if onset is not None:
            return min(onset, tokens)
        return max(0, tokens - self.windows[window].tally.tokens) if window is not None else 0
