"""
The detectors of a choice whose tokens may come with log-probabilities.

A bank of its own, so that all the streams whose policy reads none have nothing to do with them.
"""

from __future__ import annotations

from collections.abc import Iterable

from guard.detect.bank import DetectorBank
from guard.detect.baseline import Baseline
from guard.detect.channel import Reader
from guard.detect.logprob import Logprobs
from guard.types import Finding, Sample, SignalRef


class ToldBank(DetectorBank):
    """Reads signals of log-probabilities as well. Arguments as of DetectorBank."""

    def __init__(self, refs: Iterable[SignalRef], baseline: Baseline | None = None, prompt: str = "") -> None:
        wanted = tuple(refs)
        self._logprobs = Logprobs(ref for ref in wanted if ref.of_logprobs)
        super().__init__(wanted, baseline, prompt)

    def observe(self, sample: Sample) -> None:
        """See DetectorBank."""
        if sample.logprobs:
            self._logprobs.add(sample.logprobs)
            self._version += 1
        super().observe(sample)

    def finding(self, ref: SignalRef) -> Finding:
        """See DetectorBank. A fault of which only this tells began at most a window ago."""
        if not ref.of_logprobs:
            return super().finding(ref)
        size = self._tokens if ref.window is None else ref.window.size
        onset = max(self._tokens - size, 0)
        return Finding(signal=ref, value=self.read(ref), onset_token=onset, reason=self._logprobs.why(ref))

    def _step_reader(self, ref: SignalRef) -> Reader | None:
        return self._logprobs.reader(ref) if ref.of_logprobs else super()._step_reader(ref)


def bank_for(
    refs: Iterable[SignalRef], baseline: Baseline | None = None, prompt: str = "", *, told: bool
) -> DetectorBank:
    """
    The detectors of one choice.

    Args:
        refs: Signals that will be read.
        baseline: The deployment's healthy acceptance, if known.
        prompt: What the user wrote.
        told: Whether one of the signals is of log-probabilities.
    """
    return ToldBank(refs, baseline, prompt) if told else DetectorBank(refs, baseline, prompt)
