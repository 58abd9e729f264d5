"""A wrong policy is refused with file, line, setting and remedy; a right one is typed and frozen."""

from __future__ import annotations

import math

import msgspec
import pytest

from guard.errors import ConfigError
from guard.policy.load import load_policy
from guard.policy.schema import All, HoldMode, Leaf, Match, Policy
from guard.types import Action, Change, Kind, SignalRef, SignalSpec, Unit, WhenExhausted, Window
from guard.yamldoc import nearest

CATALOGUE = {
    spec.name: spec
    for spec in (
        SignalSpec("speed", 0, math.inf, "tokens", (Unit.TOKENS, Unit.STEPS), True, "How fast."),
        SignalSpec("noise", 0, 1, "share", (Unit.CHARACTERS,), False, "How loud."),
        SignalSpec("count", 1, math.inf, "times", (), False, "How often."),
    )
}
HEAD = "version: 1\nname: t\n"
RULE = "rules:\n  - name: a\n    kind: garbled\n    action: retry\n    when: "


def load(text: str) -> object:
    return load_policy(text, CATALOGUE, "p.yaml")


def refuse(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert caught.value.path == "p.yaml"
    return caught.value


def test_a_policy_with_everything() -> None:
    policy = load_policy(
        HEAD
        + "hold_back: {mode: window, hold_at: 0.4, limit: 99 tokens, window: 1 token}\n"
        + "retry: {max_attempts: 2, change: [temperature]}\nwhen_exhausted: pass\n"
        + "rules:\n  - name: a\n    kind: rare_chars\n    action: cut\n    for: 16 tokens\n    when:\n"
        + "      all:\n        - {signal: noise, window: 32 characters, from: 0.1, to: 0.2}\n"
        + "        - {signal: speed, below: 2, after: 64 tokens}\n",
        CATALOGUE,
    )
    assert (policy.hold_back.mode, policy.hold_back.limit, policy.hold_back.window) == (
        HoldMode.WINDOW,
        99,
        1,
    )
    assert (policy.retry.max_attempts, policy.retry.change) == (2, (Change.TEMPERATURE,))
    assert policy.when_exhausted is WhenExhausted.PASS
    rule = policy.rules[0]
    assert (rule.kind, rule.action, rule.persist) == (Kind.RARE_CHARS, Action.CUT, 16)
    assert rule.when == All(
        (
            Leaf(signal=SignalRef("noise", Window(32, Unit.CHARACTERS)), zero=0.1, one=0.2, step=False),
            Leaf(signal=SignalRef("speed"), zero=2, one=-math.inf, step=True, after=64),
        )
    )
    with pytest.raises(AttributeError):
        policy.name = "other"  # type: ignore[misc]


def test_a_bare_off_is_understood() -> None:
    policy = load_policy(HEAD + "hold_back: {mode: off}\n" + RULE + "{signal: noise, above: 0.5}", CATALOGUE)
    assert policy.hold_back.mode is HoldMode.OFF


@pytest.mark.parametrize(
    ("when", "where", "line", "says"),
    [
        ("{signal: nois, above: 0.5}", "when.signal", 7, "did you mean 'noise'?"),
        ("{signal: noise, abov: 0.5}", "when.abov", 7, "did you mean 'above'?"),
        ("{signal: noise, above: 1.5}", "when.above", 7, "outside the range of noise: 0 to 1"),
        ("{signal: noise, above: .nan}", "when.above", 7, "outside the range"),
        ("{signal: noise, above: 1}", "when.above", 7, "can never hold: noise is at most 1"),
        ("{signal: count, below: 1}", "when.below", 7, "can never hold: count is at least 1"),
        ("{signal: noise, window: 32 tokens, above: 0.5}", "when.window", 7, "takes characters, not tokens"),
        ("{signal: count, window: 32 tokens, above: 2}", "when.window", 7, "takes no window"),
        ("{signal: speed, window: 0 tokens, above: 2}", "when.window", 7, "at least 1"),
        ("{signal: speed, window: 32, above: 2}", "when.window", 7, "no unit"),
        ("{signal: speed, window: 32 words, above: 2}", "when.window", 7, "did you mean '32 tokens'?"),
        ("{signal: speed, above: 2, after: 3 steps}", "when.after", 7, "must be given in tokens"),
        ("{signal: noise}", "when", 7, "needs one of"),
        ("{signal: noise, from: 0.5}", "when", 7, "needs one of"),
        ("{signal: noise, from: 0.5, to: 0.5}", "when.to", 7, "equal"),
        ("{signal: noise, above: 0.5, below: 0.7}", "when", 7, "needs one of"),
        ("{above: 0.5}", "when", 7, "exactly one of signal, all, any, not"),
        ("{all: []}", "when.all", 7, "at least one"),
        ("{any: [{signal: noise, above: 0.5}], above: 1}", "when.above", 7, "belongs to a signal"),
        (
            "{all: [{signal: noise, above: 0.5}, {signal: noise, below: 0.4}]}",
            "when.all[1]",
            7,
            "can never hold",
        ),
        (
            "{any: [{signal: noise, above: 0.5}, {signal: noise, above: 0.5}]}",
            "when.any[1]",
            7,
            "stands above",
        ),
        ("{not: {signal: loud, above: 0.5}}", "when.not.signal", 7, "unknown signal 'loud'"),
    ],
)
def test_conditions_refused(when: str, where: str, line: int, says: str) -> None:
    error = refuse(HEAD + RULE + when)
    assert error.where == f"rules[0].{where}"
    assert error.line == line
    assert says in error.message


@pytest.mark.parametrize(
    ("text", "where", "line", "says"),
    [
        ("name: t\nrules: []", "", 1, "version"),
        ("version: 2\nname: t\n" + RULE + "{signal: noise, above: 0.5}", "version", 1, "reads version 1"),
        (HEAD + "rules: []", "rules", 3, "at least one rule"),
        (HEAD + "rulez: []", "rulez", 3, "did you mean 'rules'?"),
        (
            HEAD + "hold_back:\n  limit: 12\n" + RULE + "{signal: noise, above: 0.5}",
            "hold_back.limit",
            4,
            "no unit",
        ),
        (
            HEAD + "hold_back:\n  limti: 12\n" + RULE + "{signal: noise, above: 0.5}",
            "hold_back.limti",
            4,
            "'limit'",
        ),
        (HEAD + "hold_back: {mode: windw}\n" + RULE + "{}", "hold_back.mode", 3, "did you mean 'window'?"),
        (
            HEAD + "hold_back: {mode: window}\n" + RULE + "{signal: noise, above: 0.5}",
            "hold_back.window",
            3,
            "needs",
        ),
        (
            HEAD + "hold_back: {hold_at: 0}\n" + RULE + "{signal: noise, above: 0.5}",
            "hold_back.hold_at",
            3,
            "outside",
        ),
        (
            HEAD + "retry: {max_attempts: 0}\n" + RULE + "{signal: noise, above: 0.5}",
            "retry.max_attempts",
            3,
            "outside",
        ),
        (
            HEAD + "retry: {change: []}\n" + RULE + "{signal: noise, above: 0.5}",
            "retry.change",
            3,
            "repeats the fault",
        ),
        (HEAD + "name: again\n", "name", 3, "given twice"),
        (HEAD + "a: &x 1\nb: *x\n", "", 4, "anchors"),
        (HEAD + "rules: [", "", 3, "not valid YAML"),
        ("", "", None, "mapping"),
        ("[1, 2]", "", 1, "mapping"),
    ],
)
def test_documents_refused(text: str, where: str, line: int | None, says: str) -> None:
    error = refuse(text)
    assert error.where == where
    assert line is None or error.line == line
    assert says in error.message


def two(second: str) -> str:
    first = "  - {name: a, kind: garbled, action: retry, when: {signal: noise, above: 0.5}}\n"
    return HEAD + "rules:\n" + first + "  - " + second + "\n"


def test_a_name_used_twice_is_refused() -> None:
    error = refuse(two("{name: a, kind: garbled, action: note, when: {signal: noise, above: 0.6}}"))
    assert (error.where, error.line) == ("rules[1].name", 5)


def test_a_rule_that_never_decides_is_refused() -> None:
    error = refuse(two("{name: b, kind: garbled, action: note, when: {signal: noise, above: 0.5}}"))
    assert (error.where, error.line) == ("rules[1].when", 5)
    assert "'a'" in error.message


def test_an_action_that_does_nothing_is_refused() -> None:
    assert refuse(two("{name: b, kind: garbled, action: pass, when: {signal: noise, above: 0.6}}")).line == 5


def test_the_message_reads_file_line_setting_complaint() -> None:
    text = str(refuse(HEAD + RULE + "{signal: nois, above: 0.5}"))
    assert text == "p.yaml:7: rules[0].when.signal: unknown signal 'nois'; did you mean 'noise'?"


def test_nearest_lists_all_when_nothing_is_close() -> None:
    assert nearest("zzz", ["b", "a"]) == "one of a, b"


def test_the_raw_shape_has_a_json_schema() -> None:
    from guard.policy.source import PolicySource  # noqa: PLC0415

    assert "$defs" in msgspec.json.schema(PolicySource)


# -- extends --------------------------------------------------------------------------------------

BASE = (
    HEAD
    + "hold_back: {limit: 99 tokens}\nretry: {max_attempts: 5}\nwhen_exhausted: pass\nmatch: {model: x}\n"
    + "rules:\n"
    + "  - {name: loud, kind: garbled, action: retry, when: {signal: noise, above: 0.5}}\n"
    + "  - {name: fast, kind: repetition, action: cut, when: {signal: speed, above: 2}}\n"
    + "  - {name: often, kind: repetition, action: note, when: {signal: count, above: 2}}\n"
)
CHILD = "version: 1\nname: child\nextends: base\n"


def grow(text: str, **parents: str) -> Policy:
    parents.setdefault("base", BASE)
    return load_policy(text, CATALOGUE, "child.yaml", lambda name, _: (parents[name], f"{name}.yaml"))


def refuse_growth(text: str, **parents: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        grow(text, **parents)
    return caught.value


def test_what_is_not_given_is_inherited_but_for_name_and_match() -> None:
    child = grow(CHILD)
    base = load_policy(BASE, CATALOGUE)
    assert (child.rules, child.hold_back, child.retry) == (base.rules, base.hold_back, base.retry)
    assert (child.name, child.when_exhausted, child.match) == ("child", WhenExhausted.PASS, Match())


def test_a_section_replaces_the_inherited_one_whole() -> None:
    child = grow(CHILD + "hold_back: {mode: full}\n")
    assert (child.hold_back.mode, child.hold_back.limit) == (HoldMode.FULL, 512)
    assert child.retry.max_attempts == 5


def test_rules_are_replaced_in_place_added_and_disabled() -> None:
    child = grow(
        CHILD
        + "disable: [fast]\nrules:\n"
        + "  - {name: new, kind: garbled, action: note, when: {signal: speed, below: 1}}\n"
        + "  - {name: loud, kind: garbled, action: cut, when: {signal: noise, above: 0.9}}\n"
    )
    assert [(rule.name, rule.action) for rule in child.rules] == [
        ("loud", Action.CUT),
        ("often", Action.NOTE),
        ("new", Action.NOTE),
    ]


def test_every_action_can_be_overridden() -> None:
    assert {rule.action for rule in grow(CHILD + "action_override: note\n").rules} == {Action.NOTE}


def test_a_rule_that_only_holds_goes_on_doing_so() -> None:
    doubt = "rules:\n  - {name: doubt, kind: garbled, action: hold, when: {signal: speed, below: 1}}\n"
    for override in ("action_override: note\n", "action_override: cut\n", "kinds: {garbled: {action: retry}}\n"):
        assert grow(CHILD + override + doubt).rules[-1].action is Action.HOLD


def test_the_action_of_a_kind_leaves_rules_that_only_note() -> None:
    child = grow(CHILD + "kinds: {repetition: {action: retry, max_attempts: 2}}\n")
    assert [rule.action for rule in child.rules] == [Action.RETRY, Action.RETRY, Action.NOTE]
    attempts = [child.max_attempts(kind) for kind in (Kind.REPETITION, Kind.GARBLED, None)]
    assert attempts == [2, 5, 5]


def test_a_kind_is_more_exact_than_an_override() -> None:
    child = grow(CHILD + "action_override: cut\nkinds: {garbled: {action: note}}\n")
    assert [rule.action for rule in child.rules] == [Action.NOTE, Action.CUT, Action.CUT]


def test_grandparents() -> None:
    middle = "version: 1\nname: middle\nextends: base\naction_override: note\n"
    leaf = "version: 1\nname: leaf\nextends: middle\nrules:\n"
    leaf += "  - {name: new, kind: garbled, action: cut, when: {signal: speed, below: 1}}\n"
    assert [rule.action for rule in grow(leaf, middle=middle).rules] == [Action.NOTE] * 3 + [Action.CUT]


def test_a_complaint_about_an_inherited_rule_names_the_file_it_stands_in() -> None:
    error = refuse_growth(CHILD, base=BASE.replace("noise", "nois"))
    assert (error.path, error.line) == ("base.yaml", 8)


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("disable: [lou]\n", "disable[0]", "did you mean 'loud'?"),
        ("disable: [loud, loud]\n", "disable[1]", "listed twice"),
        ("disable: [loud, fast, often]\n", "rules", "at least one rule"),
        (
            "disable: [loud]\nrules:\n  - {name: loud, kind: garbled, action: cut,when: {signal: noise, above: 0.9}}\n",
            "disable[0]",
            "leave it out here",
        ),
        ("action_override: pass\n", "action_override", "'note' only records"),
        ("kinds: {rare_chars: {action: note}}\n", "kinds.rare_chars", "there are garbled, repetition"),
    ],
)
def test_what_is_wrong_with_a_child(text: str, where: str, says: str) -> None:
    error = refuse_growth(CHILD + text)
    assert (error.path, error.where) == ("child.yaml", where)
    assert error.line is not None
    assert says in error.message


def test_circles_are_refused() -> None:
    error = refuse_growth(CHILD, base="version: 1\nname: base\nextends: other\n", other=CHILD)
    assert error.where == "extends"
    assert "goes in a circle: child.yaml -> base.yaml -> other.yaml -> base.yaml" in error.message


def test_very_deep_inheritance_is_refused() -> None:
    chain = {f"p{i}": f"version: 1\nname: p\nextends: p{i + 1}\n" for i in range(20)}
    assert "at most 8" in refuse_growth("version: 1\nname: c\nextends: p0\n", **chain).message


def test_without_a_way_to_find_others_a_policy_stands_alone() -> None:
    error = refuse(CHILD)
    assert (error.where, error.line) == ("extends", 3)


def test_disable_without_extends_is_refused() -> None:
    assert "extends none" in refuse(HEAD + "disable: [a]\n" + RULE + "{signal: noise, above: 0.5}").message


# -- rules that never decide ----------------------------------------------------------------------


def test_a_rule_that_can_never_act_is_refused() -> None:
    both = "{all: [{signal: noise, from: 0.2, to: 0.8}, {signal: noise, from: 0.9, to: 0.3}]}"
    error = refuse(HEAD + RULE + both)
    assert (error.where, error.line) == ("rules[0].when", 7)
    assert "can never act: noise would have to be at least 0.8 and at most 0.3 at once" in error.message
    assert load(HEAD + "hold_back: {act_at: 0.5}\n" + RULE + both)


def test_a_narrower_rule_below_is_refused() -> None:
    error = refuse(two("{name: b, kind: garbled, action: retry, when: {signal: noise, above: 0.7}}"))
    assert (error.where, error.line) == ("rules[1].when", 5)
    assert "'a' above has a wider condition" in error.message


def test_a_milder_rule_is_refused_wherever_it_stands() -> None:
    error = refuse(
        HEAD
        + "rules:\n  - {name: a, kind: garbled, action: note, when: {signal: noise, above: 0.5}}\n"
        + "  - {name: b, kind: garbled, action: retry, when: {signal: noise, above: 0.5}}\n"
    )
    assert (error.where, error.line) == ("rules[0].when", 4)
    assert "'b' below" in error.message


@pytest.mark.parametrize(
    "second",
    [
        "{name: b, kind: garbled, action: retry, when: {signal: noise, above: 0.3}}",
        "{name: b, kind: garbled, action: retry, when: {signal: noise, below: 0.7}}",
        "{name: b, kind: garbled, action: note, when: {signal: noise, above: 0.3}}",
    ],
)
def test_rules_that_decide_something_of_their_own_are_kept(second: str) -> None:
    assert load(two(second))


def test_a_note_at_once_and_a_retry_later_is_an_escalation() -> None:
    text = HEAD + "rules:\n  - {name: a, kind: garbled, action: note, when: {signal: noise, above: 0.5}}\n"
    text += "  - {name: b, kind: garbled, action: retry, for: 64 tokens, when: {signal: noise, above: 0.5}}\n"
    assert load(text)


@pytest.mark.parametrize(("first", "second"), [("hold", "note"), ("note", "hold")])
def test_a_hold_and_a_note_both_do_their_work(first: str, second: str) -> None:
    text = HEAD + f"rules:\n  - {{name: a, kind: garbled, action: {first}, when: {{signal: noise, above: 0.5}}}}\n"
    text += f"  - {{name: b, kind: garbled, action: {second}, when: {{signal: noise, above: 0.7}}}}\n"
    assert load(text)


@pytest.mark.parametrize(
    ("when", "where", "says"),
    [
        ("{signal: speed, window: 5000 tokens, above: 2}", "when.window", "at most 4096 tokens; for all, leave it out"),
        ("{signal: noise, window: 20000 characters, above: 0.2}", "when.window", "at most 16384 characters"),
        ("{signal: noise, window: 32 tokens, above: 0.2}", "when.window", "write '32 characters'"),
        ("{signal: speed, above: 2, after: 2000000 tokens}", "when.after", "longer than any answer"),
        ("{signal: speed, above: 2, after: 3 steps}", "when.after", "write '3 tokens'"),
        ("{signal: speed, window: , above: 2}", "when.window", "has no value"),
    ],
)
def test_sizes_refused(when: str, where: str, says: str) -> None:
    error = refuse(HEAD + RULE + when)
    assert (error.where, error.line) == (f"rules[0].{where}", 7)
    assert says in error.message
