"""From readings to verdicts."""

from __future__ import annotations

import math
import random

import pytest

from guard.policy.judge import Judge, score
from guard.policy.schema import All, Any, Condition, HoldBack, HoldMode, Leaf, Not, Policy, Rule
from guard.types import Action, Finding, Kind, SignalRef, Unit, Verdict, Window

X, Y = SignalRef("x"), SignalRef("y")


def above(ref: SignalRef, value: float, after: int = 0) -> Leaf:
    return Leaf(signal=ref, zero=value, one=math.inf, step=True, after=after)


def slope(ref: SignalRef, zero: float, one: float) -> Leaf:
    return Leaf(signal=ref, zero=zero, one=one, step=False)


def rule(when: Condition, action: Action = Action.RETRY, *, name: str = "r", persist: int = 0) -> Rule:
    return Rule(name=name, kind=Kind.GARBLED, action=action, when=when, persist=persist)


class Stream:
    """A judge with readings that a test sets."""

    def __init__(self, *rules: Rule, mode: HoldMode = HoldMode.SUSPICION) -> None:
        self.judge = Judge(Policy(name="p", rules=rules, hold_back=HoldBack(mode=mode)))
        self.state = self.judge.state()
        self.asked: list[SignalRef] = []

    def at(self, tokens: int, x: float = math.nan, y: float = math.nan) -> Verdict:
        values = {"x": x, "y": y}

        def finding(ref: SignalRef) -> Finding:
            self.asked.append(ref)
            return Finding(ref, values[ref.name], tokens - 10, f"{ref.name} is high")

        return self.judge.decide(lambda ref: values[ref.name], finding, tokens, 2, self.state)


@pytest.mark.parametrize(
    ("condition", "x", "expected"),
    [
        (above(X, 0.5), 0.5, 0.0),
        (above(X, 0.5), 0.6, 1.0),
        (Leaf(signal=X, zero=0.5, one=-math.inf, step=True), 0.4, 1.0),
        (slope(X, 0.2, 0.6), 0.4, 0.5),
        (slope(X, 0.2, 0.6), 9.0, 1.0),
        (slope(X, 0.6, 0.2), 0.3, 0.75),
        (slope(X, 0.6, 0.2), 0.7, 0.0),
        (Not(slope(X, 0.0, 1.0)), 0.25, 0.75),
        (All((slope(X, 0.0, 1.0), slope(X, 0.0, 2.0))), 0.5, 0.25),
        (Any((slope(X, 0.0, 1.0), slope(X, 0.0, 2.0))), 0.5, 0.5),
    ],
)
def test_scores(condition: Condition, x: float, expected: float) -> None:
    assert score(condition, lambda _: x, 0) == pytest.approx(expected)


@pytest.mark.parametrize("condition", [above(X, 0.1), slope(X, 0.1, 0.2), slope(X, 0.2, 0.1), Not(above(X, 0.1))])
def test_the_unknown_scores_nothing(condition: Condition) -> None:
    assert score(condition, lambda _: math.nan, 0) == 0.0


def test_after_keeps_a_condition_quiet() -> None:
    assert score(above(X, 0.5, after=128), lambda _: 1.0, 127) == 0.0
    assert score(above(X, 0.5, after=128), lambda _: 1.0, 128) == 1.0


def test_suspicion_holds_and_lets_go_again() -> None:
    stream = Stream(rule(slope(X, 0.0, 1.0)))
    assert stream.at(1, x=0.4).action is Action.PASS
    held = stream.at(2, x=0.5)
    assert (held.action, held.suspicion, held.rule) == (Action.HOLD, 0.5, "")
    assert stream.at(3, x=0.4).action is Action.PASS


def test_a_rule_acts_with_evidence_and_onset() -> None:
    stream = Stream(rule(All((above(X, 0.5), above(Y, 0.5)))))
    verdict = stream.at(50, x=1.0, y=1.0)
    assert (verdict.action, verdict.kind, verdict.rule, verdict.choice) == (
        Action.RETRY,
        Kind.GARBLED,
        "r",
        2,
    )
    assert (verdict.token, verdict.onset_token) == (50, 40)
    assert verdict.reason == "x is high; y is high"


def test_only_what_holds_is_evidence_and_only_when_acting() -> None:
    stream = Stream(rule(Any((above(X, 0.5), above(Y, 0.5)))))
    stream.at(1, x=0.1, y=0.1)
    assert stream.asked == []
    assert [found.signal for found in stream.at(2, x=0.1, y=0.9).findings] == [Y]


def test_for_must_hold_without_a_break() -> None:
    stream = Stream(rule(above(X, 0.5), persist=16))
    assert stream.at(100, x=1.0).action is Action.HOLD
    assert stream.at(115, x=1.0).action is Action.HOLD
    assert stream.at(116, x=0.0).action is Action.PASS
    assert stream.at(120, x=1.0).action is Action.HOLD
    assert stream.at(136, x=1.0).action is Action.RETRY


def test_the_severest_action_wins() -> None:
    stream = Stream(
        rule(above(X, 0.5), Action.NOTE, name="n"),
        rule(above(X, 0.5), Action.RETRY, name="r"),
        rule(above(X, 0.4), Action.CUT, name="c"),
    )
    assert stream.at(1, x=1.0).rule == "r"


def test_a_note_neither_holds_nor_raises_suspicion() -> None:
    stream = Stream(rule(above(X, 0.5), Action.NOTE))
    verdict = stream.at(1, x=1.0)
    assert (verdict.action, verdict.suspicion) == (Action.NOTE, 0.0)


def test_where_nothing_is_held_suspicion_is_shown_but_does_not_hold() -> None:
    stream = Stream(rule(slope(X, 0.0, 1.0), Action.NOTE), mode=HoldMode.OFF)
    verdict = stream.at(1, x=0.7)
    assert (verdict.action, verdict.suspicion) == (Action.PASS, 0.7)


def test_a_rule_that_holds_is_told_but_leaves_the_word_to_one_that_notes_cuts_or_retries() -> None:
    for action in (Action.NOTE, Action.CUT, Action.RETRY):
        stream = Stream(rule(above(X, 0.5), Action.HOLD, name="h"), rule(above(Y, 0.5), action, name="other"))
        held = stream.at(1, x=1.0, y=0.0)
        assert (held.action, held.suspicion, held.rule) == (Action.HOLD, 1.0, "h")
        other = stream.at(2, x=1.0, y=1.0)
        assert (other.action, other.suspicion, other.rule) == (action, 1.0, "other")


def test_a_rule_that_holds_does_nothing_where_nothing_is_held() -> None:
    verdict = Stream(rule(above(X, 0.5), Action.HOLD), mode=HoldMode.OFF).at(1, x=1.0)
    assert (verdict.action, verdict.suspicion, verdict.rule) == (Action.PASS, 1.0, "")


def test_one_judge_serves_many_choices() -> None:
    stream = Stream(rule(above(X, 0.5), persist=16))
    other = Stream(rule(above(X, 0.5)))
    other.judge, other.state = stream.judge, stream.judge.state()
    stream.at(100, x=1.0)
    assert other.at(116, x=1.0).action is Action.HOLD
    assert stream.at(116, x=1.0).action is Action.RETRY


def test_refs_are_all_signals_once() -> None:
    judge = Judge(Policy(name="p", rules=(rule(All((above(X, 1), above(Y, 1)))), rule(above(X, 2), name="s"))))
    assert judge.refs == (X, Y)


def test_a_rule_notes_once_in_a_choice() -> None:
    stream = Stream(rule(above(X, 0.5), Action.NOTE, name="n"), rule(above(Y, 0.5), name="r"))
    assert [stream.at(n, x=1.0).action for n in (1, 2)] == [Action.NOTE, Action.PASS]
    assert stream.at(3, x=1.0, y=1.0).rule == "r"
    stream.state = stream.judge.state()
    assert stream.at(1, x=1.0).action is Action.NOTE


def test_a_lull_in_which_nothing_is_suspected_breaks_a_persistence() -> None:
    stream = Stream(rule(All((above(X, 0.5), above(Y, 0.5))), persist=16))
    stream.at(100, x=1.0, y=1.0)
    stream.at(110, x=0.0, y=1.0)
    assert stream.at(120, x=1.0, y=1.0).action is Action.HOLD


def test_judges_of_one_stream_can_share_their_signals() -> None:
    live = Judge(Policy(name="p", rules=(rule(above(X, 0.5)),)))
    shadow = Judge(Policy(name="q", rules=(rule(above(SignalRef("x"), 0.7)), rule(above(Y, 1), name="s"))), live.refs)
    assert shadow.refs == (X, Y)
    assert shadow.refs[0] is live.refs[0]


FALL, LOOP, PAGE, COUNT = (SignalRef(name) for name in ("acceptance_fall", "repetition_count", "garble", "tokens"))
MIXED = (
    All((slope(FALL, 0.3, 0.6), Any((slope(PAGE, 0.4, 0.8), slope(LOOP, 0.5, 0.9))))),
    All((slope(FALL, 0.3, 0.6), Not(slope(PAGE, 0.4, 0.8)))),
    All((slope(FALL, 0.2, 0.6), Not(slope(COUNT, 40, 90)))),
    All((slope(PAGE, 0.3, 0.6), slope(LOOP, 0.3, 0.6), slope(FALL, 0.3, 0.6))),
    All((above(COUNT, 20), above(PAGE, 0.5, after=60))),
    Any((slope(FALL, 0.6, 0.9), All((slope(LOOP, 0.6, 0.9), above(PAGE, 0.7))))),
    All((Any((slope(FALL, 0.5, 0.7), above(COUNT, 80))), slope(PAGE, 0.8, 0.2))),
    slope(LOOP, 0.7, 0.9),
    Not(slope(PAGE, 0.0, 0.4)),
)


@pytest.mark.parametrize("seed", range(40))
def test_what_the_text_ruled_out_is_looked_at_again_only_when_it_has_changed(seed: int) -> None:
    dice = random.Random(seed)
    rules = [rule(when, name=f"r{n}", persist=dice.choice((0, 9))) for n, when in enumerate(MIXED)]
    judge = Judge(Policy(name="p", rules=tuple(dice.sample(rules, dice.randint(1, len(rules))))))
    thrifty, thorough = judge.state(), judge.state()
    thrifty.text_only = thorough.text_only = seed % 5 == 0
    values, text, reads = dict.fromkeys((FALL, LOOP, PAGE), math.nan), (0, 0), [0, 0]

    def reading(which: int, tokens: int, ref: SignalRef) -> float:
        reads[which] += 1
        return tokens if ref == COUNT else values[ref]

    for tokens in range(1, 200):
        values[FALL] = dice.choice((math.nan, dice.random()))
        if dice.random() < 0.3:
            values[LOOP], text = dice.random(), (text[0] + 1, text[1])
        if dice.random() < 0.1:
            values[PAGE], text = dice.choice((math.nan, dice.random())), (text[0] + 1, text[1] + 1)
        verdicts = [
            judge.decide(
                lambda ref, which=which, tokens=tokens: reading(which, tokens, ref),
                lambda ref, tokens=tokens: Finding(ref, 0.0, tokens, str(ref)),
                tokens,
                0,
                state,
                text if state is thrifty else None,
            )
            for which, state in enumerate((thrifty, thorough))
        ]
        assert verdicts[0] == verdicts[1]
    assert reads[0] < reads[1]


def test_acceptance_is_not_read_while_the_text_rules_out_what_it_could_wake() -> None:
    judge = Judge(Policy(name="p", rules=(rule(All((slope(FALL, 0.3, 0.6), slope(PAGE, 0.4, 0.8)))),)))
    state, asked, values = judge.state(), [], {FALL: 0.9, PAGE: 0.1}

    def read(ref: SignalRef) -> float:
        asked.append(ref)
        return values[ref]

    text = (1, 1)
    assert [judge.suspects(read, state, text) for _ in range(3)] == [[], [], []]
    assert asked == [FALL, PAGE], "read once, and not again on the same page"
    values[PAGE] = 0.9
    assert judge.suspects(read, state, (2, 2)) == [0]


def test_the_same_text_is_known_by_its_value() -> None:
    """A compiled build makes another pair each time it is told how much text there is."""
    judge, asked = Judge(Policy(name="p", rules=(rule(slope(LOOP, 0.4, 0.8)), rule(slope(PAGE, 0.4, 0.8))))), []

    def read_all(refs: tuple[SignalRef, ...]) -> list[float]:
        asked.append(refs)
        return [0.0 for _ in refs]

    state = judge.state()
    for blocks, pages in [(1, 1)] * 4 + [(2, 1)] * 3:
        assert judge.suspects(lambda ref: math.nan, state, (blocks, pages), read_all) == []
    assert asked == [(PAGE,), (LOOP,), (LOOP,)]


SUNK, LONG = (SignalRef(name, Window(32, Unit.TOKENS)) for name in ("acceptance_fall", "acceptance_length"))
BROKEN = SignalRef("garble", Window(64, Unit.CHARACTERS))


def slack_of(when: Condition, garble: float, slack: tuple[float, float]) -> tuple[float, float] | None:
    judge = Judge(Policy(name="p", rules=(rule(when),)))
    state = judge.state()
    readings = {"acceptance_fall": 0.0, "acceptance_length": 3.0, "garble": garble}
    judge.suspects(lambda ref: readings[ref.name], state, (1, 1))
    return judge.slack(lambda ref: readings[ref.name], lambda ref, bound, ahead, rising: slack, 20, state)


def test_it_is_told_which_way_a_bound_would_be_passed() -> None:
    judge = Judge(Policy(name="p", rules=(rule(slope(SUNK, 0.3, 0.6)), rule(slope(LONG, 2.0, 1.0)))))
    asked: list[tuple[str, float, int, bool]] = []

    def slack(ref: SignalRef, bound: float, ahead: int, rising: bool) -> tuple[float, float]:
        asked.append((ref.name, bound, ahead, rising))
        return 4.0, 0.5

    assert judge.slack(lambda ref: 0.0, slack, 20, judge.state()) == (4.0, 0.5)
    assert asked == [("acceptance_fall", 0.3, 20, True), ("acceptance_length", 2.0, 20, False)]


def test_the_next_step_can_raise_suspicion_only_where_text_and_acceptance_let_it() -> None:
    both = All((slope(SUNK, 0.3, 0.6), slope(BROKEN, 0.1, 0.2)))
    assert slack_of(both, 0.0, (4.0, 0.5)) == (4.0, 0.5), "acceptance is far from its bound"
    assert slack_of(both, 0.0, (-1.0, 0.5)) == (math.inf, 0.0), "the text rules it out"
    assert slack_of(both, 0.15, (-1.0, 0.5)) is None
    assert slack_of(slope(LONG, 2.0, 1.0), 0.0, (-1.0, 0.0)) is None, "of some signals nothing is foreseen"
    assert slack_of(slope(BROKEN, 0.1, 0.2), 0.0, (-1.0, 0.5)) == (math.inf, 0.0)


def test_by_acceptance_alone_what_falls_must_be_far_whatever_the_text_and_loops_may_be_ruled_out_by_it() -> None:
    fall, rise = (SignalRef(name, Window(32, Unit.TOKENS)) for name in ("acceptance_fall", "acceptance_probability"))
    broken, again = SignalRef("garble", Window(160, Unit.CHARACTERS)), SignalRef("repetition_count")
    judge = Judge(
        Policy(
            name="two",
            rules=(
                rule(All((slope(fall, 0.3, 0.5), slope(broken, 0.1, 0.2))), name="bad"),
                rule(All((slope(rise, 0.5, 0.7), slope(again, 2.0, 5.0))), name="loop"),
            ),
        )
    )
    told = {fall: (4.0, 0.5), rise: (-1.0, 0.0)}

    def slack(ref: SignalRef, bound: float, ahead: int, rising: bool) -> tuple[float, float]:
        return told[ref]

    def read(ref: SignalRef) -> float:
        return 0.0

    state = judge.state()
    assert judge.slack(None, slack, 20, state) is None, "what the text says of loops is not known yet"
    assert judge.slack(read, slack, 20, state) == (4.0, 0.5)
    assert judge.slack(None, slack, 20, state) == (4.0, 0.5)
    told[fall] = (-1.0, 0.0)
    assert judge.slack(read, slack, 20, state) is not None, "the text rules it out"
    assert judge.slack(None, slack, 20, state) is None, "the text that follows may not"
    told[fall] = (4.0, 0.5)
    state.text_only = True
    assert judge.slack(None, slack, 20, state) is None
