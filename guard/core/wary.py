"""
A second look at the answers of a suspect replica, for which part of the evidence is enough.

The policy judges as ever. Beside it the same rules are scored by a sharper measure (`guard.policy.prior`); what that
finds is a doubt. It means nothing while the replica is above suspicion, and the fleet may come to suspect it while the
answer is still being made. Then all text waits, for the policy to follow soon: its verdict also counts against the
replica. Should it not follow, the answer is tried again all the same, and nobody is charged: a suspicion that is
evidence for itself would never end.
"""

from __future__ import annotations

from typing import Final

from guard.core.monitor import Monitor
from guard.core.record import AttemptRecord
from guard.core.settings import Wariness
from guard.policy.judge import Judge, JudgeState
from guard.policy.schema import HoldMode
from guard.types import Action, Verdict

#: How long the policy has to follow. Unit: tokens.
GRACE: Final = 96


class Wary:
    """
    See the module. One for an attempt.

    Args:
        wariness: Towards the replica.
        judge: The policy's.
        monitor: Of the attempt; it is told what is suspected here too.
        record: Of the attempt; told why its replica is suspect.
    """

    def __init__(self, wariness: Wariness, judge: Judge, monitor: Monitor, record: AttemptRecord) -> None:
        self._why = wariness.why
        self._judge = judge.sharper(wariness.evidence, wariness.kinds)
        hold = judge.policy.hold_back
        self._grace = 0 if hold.mode is HoldMode.OFF else min(GRACE, hold.limit)
        self._monitor = monitor
        self._record = record
        record.suspected = self._why()
        self._states: dict[int, JudgeState] = {}
        self._doubt: Verdict | None = None
        #: Tokens of its choice when the doubt began to matter. Unit: tokens.
        self._since = -1

    @property
    def doubt(self) -> Verdict | None:
        """The first verdict by the sharper measure, once and while the replica is suspect."""
        doubt = self._doubt
        if doubt is None or (self._since < 0 and not self._wakes(doubt)):
            return None
        return doubt

    @property
    def doubts(self) -> bool:
        """Whether the sharper measure has found something, be the replica suspect or not."""
        return self._doubt is not None

    def temper(self, verdict: Verdict) -> Verdict:
        """
        What to do after the policy has judged the latest samples.

        Args:
            verdict: The policy's; it has the last word when it acts.

        Returns:
            Its verdict, or the doubt once the policy has had its time to follow.
        """
        monitor = self._monitor
        if monitor.suspicion == 0.0 and not self._states:
            return verdict  # where the policy scores nothing, no share of it is anything
        if verdict.action in (Action.RETRY, Action.CUT):
            return verdict
        if self._doubt is None:
            self._look(monitor)
        doubt = self.doubt
        return verdict if doubt is None or monitor.tokens(doubt.choice) - self._since < self._grace else doubt

    def _look(self, monitor: Monitor) -> None:
        for choice, watched in monitor.watched():
            if watched.suspicion == 0.0:
                if self._states.pop(choice, None) is not None:
                    monitor.suspect_also(choice, 0.0)
                continue
            state = self._states.get(choice)
            if state is None:
                state = self._states[choice] = self._judge.state()
            state.text_only = watched.state.text_only
            bank = watched.bank
            verdict = self._judge.decide(bank.read, bank.finding, bank.tokens, choice, state, bank.text)
            if self._record.suspected:
                monitor.suspect_also(choice, verdict.suspicion)
            if verdict.action is Action.RETRY:
                self._doubt = verdict
                return

    def _wakes(self, doubt: Verdict) -> bool:
        """Whether the replica of a doubtful answer is suspect by now."""
        self._record.suspected = why = self._why() or self._record.suspected
        if not why:
            return False
        self._since = self._monitor.tokens(doubt.choice)
        self._monitor.suspect_also(doubt.choice, doubt.suspicion)
        return True

    def drop(self) -> None:
        """Nothing could be done about the doubt: what was suspected here no longer counts."""
        for choice in self._states:
            self._monitor.suspect_also(choice, 0.0)
