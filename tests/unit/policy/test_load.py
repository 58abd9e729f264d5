"""A wrong policy is refused with file, line, setting and remedy; a right one is typed and frozen."""

from __future__ import annotations

import math

import msgspec
import pytest

from guard.errors import ConfigError
from guard.policy.load import load_policy
from guard.policy.schema import All, HoldMode, Leaf
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
    from guard.policy.schema import PolicySource  # noqa: PLC0415

    assert "$defs" in msgspec.json.schema(PolicySource)
