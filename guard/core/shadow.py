"""A second policy beside the live one: judged on the same readings, never acted on."""

from __future__ import annotations

from collections.abc import Sequence

from guard.core.monitor import Leeway, Monitor, Watched, leeway, slack_alone
from guard.core.record import AttemptRecord
from guard.detect.baseline import Baseline
from guard.detect.told import bank_for
from guard.policy.judge import Judge, JudgeState
from guard.types import Action, Channel, Sample, Verdict


class ShadowMonitor(Monitor):
    """
    A monitor that also notes what another policy would have done first.

    Args:
        judge: The policy that acts.
        baseline: Healthy acceptance of the deployment, if known.
        shadow: The other, compiled with `judge.refs` to share.
        record: Takes the shadow's first verdict that acts.
        prompt: What the user asked.
    """

    def __init__(
        self, judge: Judge, baseline: Baseline | None, shadow: Judge, record: AttemptRecord, prompt: str = ""
    ) -> None:
        super().__init__(judge, baseline, prompt)
        self._shadow = shadow
        self._record = record
        self._states: dict[int, JudgeState] = {}

    def observe(self, samples: Sequence[Sample]) -> Verdict:
        """As of Monitor; the shadow is asked until it acts."""
        worst = super().observe(samples)
        for sample in samples:
            watched = self._choices.get(sample.choice)
            if watched is None or self._record.shadow is not None:
                continue
            bank, state = watched.bank, self._states.get(sample.choice)
            if state is None:
                state = self._states[sample.choice] = self._shadow.state()
            verdict = self._shadow.decide(bank.read, bank.finding, bank.tokens, sample.choice, state, bank.text)
            if verdict.action not in (Action.PASS, Action.HOLD):
                self._record.shadow = verdict
        return worst

    def leeway(self, channel: Channel, ahead: int) -> Leeway | None:
        """As of Monitor, for both policies until the shadow has acted."""
        own, state = super().leeway(channel, ahead), self._states.get(0)
        if own is None or self._record.shadow is not None or state is None:
            return own
        other = leeway(self._shadow, self._choices[0].bank, state, channel, ahead)
        if other is not None:
            other.slack, other.share = min(own.slack, other.slack), max(own.share, other.share)
            other.room, other.waits = min(own.room, other.room), own.waits and other.waits
        return other

    def slack_alone(self, channel: Channel, ahead: int) -> tuple[float, float] | None:
        """As of Monitor, for both policies until the shadow has acted."""
        own, state = super().slack_alone(channel, ahead), self._states.get(0)
        if own is None or self._record.shadow is not None or state is None:
            return own
        other = slack_alone(self._shadow, self._choices[0].bank, state, channel, ahead)
        return None if other is None else (min(own[0], other[0]), max(own[1], other[1]))

    def _new_choice(self) -> Watched:
        refs = (*self._judge.refs, *self._shadow.refs)
        told = self._judge.reads_logprobs or self._shadow.reads_logprobs
        return Watched(bank_for(refs, self._baseline, self._prompt, told=told), self._judge.state())
