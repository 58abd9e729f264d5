"""The monitor: each choice judged on its own, the worst decides."""

from __future__ import annotations

from guard.core import monitor
from guard.core.monitor import MOST_WAITING, Monitor
from guard.policy.judge import Judge
from guard.shipped import find_policy
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


def test_a_continuation_is_judged_with_what_stands_before() -> None:
    """The default policy, a loop of which three rounds were shown: the fourth and fifth are in the continuation."""
    judge = Judge(find_policy("default"))
    line = "and so the keeper went up the stair to light the lamp, "

    def tokens_until_verdict(watch: Monitor) -> int:
        for number in range(1, 400):
            at = (number - 1) * 4 % len(line)
            step = StepAcceptance(3, 3, 4, exact=True)
            text = (line * 2)[at : at + 4]
            verdict = watch.observe([Sample(0, ((Channel.CONTENT, text),), 1, (step,))])
            if verdict.action is Action.RETRY:
                return number
        return 400

    blind, told = Monitor(judge, None), Monitor(judge, None)
    told.recall("It was night. " + line * 3, 50)
    found = tokens_until_verdict(told)
    assert found < 0.6 * tokens_until_verdict(blind)
    verdict = told.observe([Sample(0, ((Channel.CONTENT, line),), 14)])
    assert verdict.onset_token < 50, "the loop began in the text shown before"


def test_a_continuation_that_leaves_the_loop_is_left_alone() -> None:
    judge = Judge(find_policy("default"))
    watch = Monitor(judge, None)
    watch.recall("and so the keeper went up to light the lamp, " * 3, 40)
    text = "At dawn a ship came in from the north with timber, two goats and a letter for the schoolmaster's wife. "
    for start in range(0, len(text), 5):
        step = StepAcceptance(2, 3, 3, exact=True)
        verdict = watch.observe([Sample(0, ((Channel.CONTENT, text[start : start + 5]),), 1, (step,))])
        assert verdict.action in (Action.PASS, Action.HOLD)
    assert watch.suspicion == 0.0


def test_much_text_before_is_taken_in_from_its_end() -> None:
    watch = Monitor(Judge(find_policy("default")), None)
    watch.recall("word " * 100_000, 100_000)
    assert watch._choices[0].bank.tokens == 100_000


def test_leeway_is_what_may_follow_before_anything_can_be_suspected() -> None:
    watch = Monitor(Judge(find_policy("default")), None)
    assert watch.leeway(Channel.CONTENT, 16) is None, "nothing is known yet"
    watch.observe([Sample(0, ((Channel.CONTENT, "Once"),), 1, (StepAcceptance(0, 3, 1, exact=True),))])
    leeway = watch.leeway(Channel.CONTENT, 16)
    assert leeway is not None
    assert (leeway.room, leeway.share) == (60, 0.0)
    steps = Monitor(Judge(policy()), None)
    steps.observe([sample(0, 2)])
    assert steps.leeway(Channel.CONTENT, 16) is None, "the next step could be rejected"


def test_detectors_can_be_made_before_the_first_words() -> None:
    early, late = Monitor(Judge(policy()), None), Monitor(Judge(policy()), None)
    early.prepare()
    (prepared,) = early.watched()
    early.prepare()
    assert early.watched() == [prepared]
    assert early.calm
    for accepted in (2, 1, 0):
        assert early.observe([sample(0, accepted)]) == late.observe([sample(0, accepted)])
    assert early.watched() == [prepared]


def ordinary(watch: Monitor, text: str) -> None:
    for number, word in enumerate(text.split()):
        kept = 1 + number % 2
        watch.take_ahead(bytes([kept, 3, kept + 1]))
        watch.observe([Sample(0, ((Channel.CONTENT, word + " "),), 0)])


def test_where_acceptance_alone_shows_that_all_is_well_text_waits_and_only_there() -> None:
    watch = Monitor(Judge(find_policy("default")), None)
    watch.prepare()
    ordinary(watch, "a few words of an answer that says this and that of rivers, boats and the people on them")
    leeway = watch.leeway(Channel.CONTENT, 20)
    assert leeway is not None
    assert (leeway.room, leeway.waits) == (MOST_WAITING, True)
    assert watch.slack_alone(Channel.CONTENT, 20) == (leeway.slack, leeway.share)
    for _ in range(8):
        watch.take_ahead(bytes([0, 3, 1]))
    assert watch.slack_alone(Channel.CONTENT, 20) is None
    leeway = watch.leeway(Channel.CONTENT, 20)
    assert leeway is None or (leeway.room <= 64 and not leeway.waits)
