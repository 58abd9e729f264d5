"""Names and types that are wrong are refused with the nearest right one."""

from __future__ import annotations

import pytest

from guard.errors import ConfigError
from guard.policy.convert import convert
from guard.policy.schema import HoldMode
from guard.policy.source import HoldBackSource
from guard.yamldoc import Document

HEAD = "version: 1\nname: t\n"


def test_a_bare_off_is_a_mode() -> None:
    source = convert(Document(HEAD + "hold_back: {mode: off}\n", "p.yaml"))
    assert source.hold_back == HoldBackSource(mode=HoldMode.OFF)


@pytest.mark.parametrize(
    ("text", "where", "line", "says"),
    [
        ("rules:\n  - {nam: a}\n", "rules[0].nam", 4, "did you mean 'name'?"),
        ("rules:\n  - {name: a, kind: garbled, action: retry}\n", "rules[0]", 4, "must be given: 'when'"),
        ("rules:\n  - {name: a, kind: rare, action: retry, when: {}}\n", "rules[0].kind", 4, "'rare_chars'"),
        ("rules:\n  - {name: a, kind: garbled, action: retyr, when: {}}\n", "rules[0].action", 4, "'retry'"),
        ("rules:\n  - name: a\n    kind: garbled\n    action: cut\n    for:\n", "rules[0].for", 7, "has no value"),
        ("match: {modle: x}\n", "match.modle", 3, "did you mean 'model'?"),
        ("match: {prompt_tokens: {over: 3}}\n", "match.prompt_tokens.over", 3, "did you mean 'above'?"),
        ("match: {model: 7}\n", "match.model", 3, "expected text or a list, got a whole number"),
        ("kinds: {loops: {action: cut}}\n", "kinds.loops", 3, "'loops' is no kind; one of garbled"),
        ("kinds: {garbled: {acton: cut}}\n", "kinds.garbled.acton", 3, "did you mean 'action'?"),
        ("kinds: {garbled: {action: abort}}\n", "kinds.garbled.action", 3, "one of cut, hold, note, retry"),
        ("extend: default\n", "extend", 3, "did you mean 'extends'?"),
        ("hold_back:\n", "hold_back", 3, "has no value"),
        ("hold_back: {limit: 12}\n", "hold_back.limit", 3, "'48 tokens'"),
        ("when_exhausted: yes\n", "when_exhausted", 3, "true is not known here; one of best, cut, pass"),
        ("rules:\n  - {name: a, when: {signal: x, above: 10%}}\n", "rules[0].when.above", 4, "got text; write 0.1"),
        ("confirm: {kinds: [garbeld]}\n", "confirm.kinds[0]", 3, "not known here; did you mean 'garbled'?"),
        ("confirm: {timout: 5}\n", "confirm.timout", 3, "did you mean 'timeout'?"),
        ("match: {header: {x-a: b, x-team: 5}}\n", "match.header.x-team", 3, "got a whole number; put it in quotes"),
        ("kinds: {rare_chars: {change: seed}}\n", "kinds.rare_chars.change", 3, "write [seed]"),
        ("when_exhausted: throw\n", "when_exhausted", 3, "one of best, cut, pass"),
        ("retry: {change: [sead]}\n", "retry.change[0]", 3, "did you mean 'seed'?"),
    ],
)
def test_refused(text: str, where: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        convert(Document(HEAD + text, "p.yaml"))
    assert (caught.value.where, caught.value.line) == (where, line)
    assert says in caught.value.message


def test_a_file_without_anything_in_it_is_called_empty() -> None:
    with pytest.raises(ConfigError, match="the file is empty; a policy is a mapping with"):
        convert(Document("# to be written\n", "p.yaml"))
