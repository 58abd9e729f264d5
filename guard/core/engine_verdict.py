"""
A verdict that the engine itself passed: vLLM's `repetition_detection` ends a choice with the finish
reason "repetition".

Source:
    vLLM 0.32 vllm/v1/core/sched/utils.py (`check_stop`), vllm/sampling_params.py
    (`RepetitionDetectionParams`).
"""

from __future__ import annotations

from guard.core.monitor import CLEAN
from guard.policy.schema import Policy
from guard.types import Action, Finding, Kind, SignalRef, Verdict

#: The finish reason.
REPETITION = "repetition"
_ACTIONS = list(Action)


def engine_verdict(policy: Policy, choice: int, token: int, suspicion: float) -> Verdict:
    """
    What a policy makes of it: as much as the strictest of its rules on repetition.

    Args:
        policy: The exchange's.
        choice: Index of the choice that was ended.
        token: Its tokens. Unit: tokens.
        suspicion: The choice's own, for the record.

    Returns:
        A note where the policy has no rule on repetition that acts: the client then gets the
        engine's finish reason as it is.
    """
    actions = [rule.action for rule in policy.rules if rule.kind is Kind.REPETITION]
    action = max(actions, key=_ACTIONS.index, default=Action.NOTE)
    if action in (Action.PASS, Action.HOLD):
        action = Action.NOTE
    finding = Finding(SignalRef("finish_reason"), 1.0, token, "the engine ended it for repetition")
    return Verdict(
        action=action,
        suspicion=max(suspicion, CLEAN.suspicion),
        kind=Kind.REPETITION,
        rule="engine",
        choice=choice,
        token=token,
        onset_token=token,
        findings=(finding,),
    )
