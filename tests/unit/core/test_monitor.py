"""The monitor: each choice judged on its own, the worst decides."""

from __future__ import annotations

from guard.core import monitor
from guard.core.monitor import Monitor
from guard.policy.judge import Judge
from guard.types import Action, Channel, Sample, StepAcceptance
from tests.unit.core.transcript import policy


def sample(choice: int, accepted: int) -> Sample:
    return Sample(choice, ((Channel.CONTENT, "x"),), 1, (StepAcceptance(accepted, 2, accepted + 1, exact=True),))


def test_the_worst_choice_decides_and_suspicion_is_the_highest() -> None:
    watch = Monitor(Judge(policy()), None)
    assert watch.observe([sample(0, 2)]).action is Action.PASS
    verdict = watch.observe([sample(0, 2), sample(1, 1)])
    assert verdict.action is Action.HOLD
    assert verdict.choice == 1
    assert watch.suspicion == 0.5
    assert watch.observe([sample(0, 0)]).action is Action.RETRY


def test_suspicion_of_a_silent_choice_stays() -> None:
    watch = Monitor(Judge(policy()), None)
    watch.observe([sample(1, 1)])
    watch.observe([sample(0, 2)])
    assert watch.suspicion == 0.5


def test_choices_beyond_the_bound_pass_unwatched() -> None:
    watch = Monitor(Judge(policy()), None)
    watch.observe([sample(i, 2) for i in range(monitor.MAX_CHOICES)])
    assert watch.observe([sample(monitor.MAX_CHOICES, 0)]).action is Action.PASS


def test_no_samples_is_no_verdict() -> None:
    assert Monitor(Judge(policy()), None).observe([]).action is Action.PASS
