"""A shadow policy sees what the live one sees, and never changes what becomes of the stream."""

from __future__ import annotations

from guard.core.monitor import Monitor
from guard.core.record import AttemptRecord
from guard.core.shadow import ShadowMonitor
from guard.policy.judge import Judge
from guard.shipped import find_policy
from guard.types import Action, Channel, Sample, StepAcceptance
from tests.unit.core.transcript import policy


def sample(accepted: int, choice: int = 0) -> Sample:
    return Sample(choice, ((Channel.CONTENT, "x"),), 1, (StepAcceptance(accepted, 2, accepted + 1, exact=True),))


def pair(live: Action, shadow: Action) -> tuple[ShadowMonitor, AttemptRecord]:
    judge, record = Judge(policy(live)), AttemptRecord(1, "r", "vllm", "first")
    return ShadowMonitor(judge, None, Judge(policy(shadow), judge.refs), record), record


def test_the_first_verdict_of_the_shadow_is_kept() -> None:
    watch, record = pair(Action.NOTE, Action.RETRY)
    watch.observe([sample(2)])
    assert record.shadow is None
    watch.observe([sample(0)])
    assert record.shadow is not None
    assert (record.shadow.action, record.shadow.token) == (Action.RETRY, 2)
    watch.observe([sample(0)])
    assert record.shadow.token == 2


def test_suspicion_alone_is_no_verdict() -> None:
    watch, record = pair(Action.RETRY, Action.RETRY)
    assert watch.observe([sample(1)]).action is Action.HOLD
    assert record.shadow is None


def test_the_live_verdict_is_that_of_a_monitor_without_shadow() -> None:
    watch, _ = pair(Action.RETRY, Action.CUT)
    plain = Monitor(Judge(policy(Action.RETRY)), None)
    for accepted in (2, 1, 2, 0):
        samples = [sample(accepted), sample(2, choice=1)]
        assert watch.observe(samples) == plain.observe(samples)
        assert watch.suspicion == plain.suspicion


def test_what_may_pass_is_what_both_policies_allow() -> None:
    judge, record = Judge(find_policy("default")), AttemptRecord(1, "r", "vllm", "first")
    watch = ShadowMonitor(judge, None, Judge(policy(Action.RETRY), judge.refs), record)
    watch.observe([sample(2)])
    assert watch.leeway(Channel.CONTENT, 16) is None, "the shadow looks at each step"
    watch.observe([sample(0)])
    assert record.shadow is not None
    assert watch.leeway(Channel.CONTENT, 16) is not None, "it has acted"
    other = ShadowMonitor(judge, None, Judge(find_policy("strict"), judge.refs), record)
    record.shadow = None
    other.observe([sample(2)])
    assert other.leeway(Channel.CONTENT, 16) is not None


def test_text_waits_only_where_both_policies_let_it() -> None:
    default, each = Judge(find_policy("default")), policy(Action.RETRY)
    record = AttemptRecord(1, "r", "vllm", "first")
    words = ("some", "words", "of", "an", "answer", "about", "rivers", "and", "boats", "and", "people", "on", "them")
    for shadow, waits in ((find_policy("strict"), True), (each, False)):
        watch = ShadowMonitor(default, None, Judge(shadow, default.refs), record)
        watch.prepare()
        for number, word in enumerate(words):
            kept = 1 + number % 2
            watch.take_ahead(bytes([kept, 3, kept + 1]))
            watch.observe([Sample(0, ((Channel.CONTENT, word + " "),), 0)])
        record.shadow = None
        assert (watch.slack_alone(Channel.CONTENT, 20) is not None) is waits
        leeway = watch.leeway(Channel.CONTENT, 20)
        assert (leeway is not None and leeway.waits) is waits
