"""All that is wrong with a file of tests is told in one go, and nothing that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.lab.policy_test import policy_test_command
from guard.lab.policy_test_file import read_tests
from guard.shipped import find_policy

POLICY = """
version: 1
name: p
rules:
  - {name: blank, kind: repetition, action: retry, when: {signal: blank_lines, from: 4, to: 20}}
"""
GOOD = "tests:\n  - {name: a, stream: [{text: a}], expect: pass}\n"


def wrong(folder: Path, text: str, policy: str = POLICY) -> list[str]:
    (folder / "p.yaml").write_text(policy)
    file = folder / "p_test.yaml"
    file.write_text(text)
    tests, faults = read_tests(file, find_policy)
    assert (tests is None) is bool(faults)
    return sorted(f"{error.line} {error.where}" for error in faults)


def test_every_wrong_test_is_told_of(tmp_path: Path) -> None:
    text = (
        "texts: {a: b}\n"
        "tests:\n"
        "  - {name: a, stream: [{use: x}, {text: c, accepted: 9}], expect: {action: cut, rule: blnk}}\n"
        "  - {name: b, stream: [{text: good}], expect: past}\n"
        "  - {name: e, stream: [], expect: pass}\n"
        "  - {name: c, stream: [{text: a, use: a}], expect: {action: cut, not_before_token: 9, by_token: 8}}\n"
        "  - {name: d, stream: [{text: good}], expect: pass, promt: x}\n"
    )
    assert wrong(tmp_path, text) == [
        "3 tests[0].expect.rule",
        "3 tests[0].stream[0].use",
        "3 tests[0].stream[1].accepted",
        "4 tests[1].expect",
        "5 tests[2].stream",
        "6 tests[3].expect.by_token",
        "6 tests[3].stream[0]",
        "7 tests[4].promt",
    ]


def test_what_follows_from_another_mistake_is_not_one(tmp_path: Path) -> None:
    used = "tests:\n  - {name: a, stream: [{use: x}], expect: pass}\n"
    assert wrong(tmp_path, f"texts_from: gone.yaml\n{used}") == ["1 texts_from"]
    assert wrong(tmp_path, f"texts: [x]\n{used}") == ["1 texts"]
    assert wrong(tmp_path, "tests:\n  - {name: a, stream: [{text: 1}], expect: pass}\n") == [
        "2 tests[0].stream[0].text"
    ]
    assert wrong(tmp_path, GOOD) == []


def test_the_policys_mistakes_are_told_with_those_of_its_tests(tmp_path: Path) -> None:
    policy = POLICY.replace("retry", "retyr").replace("repetition", "repetitoin")
    assert wrong(tmp_path, f"{GOOD}  - {{name: b, stream: [], expect: pass}}\n", policy) == [
        "3 tests[1].stream",
        "5 rules[0].action",
        "5 rules[0].kind",
    ]
    assert wrong(tmp_path, GOOD, policy) == ["5 rules[0].action", "5 rules[0].kind"]


def test_a_file_that_is_wrong_keeps_no_other_from_being_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    for name, text in (("a", "tests: []\n"), ("b", GOOD), ("c", GOOD.replace("pass", "cut")), ("d", "nothing")):
        (tmp_path / f"{name}_test.yaml").write_text(f"policy: p.yaml\n{text}" if text != "nothing" else text)
    assert policy_test_command([tmp_path]) == 2
    out, err = capsys.readouterr()
    assert [line.rpartition("/")[2] for line in out.splitlines()] == [
        "b_test.yaml: 1 of 1 passed (p)",
        "c_test.yaml: 0 of 1 passed (p)",
    ]
    assert "a_test.yaml:2: tests: a test file needs" in err
    assert "expected cut, got pass" in err
    assert "d_test.yaml" in err
    assert policy_test_command([tmp_path / "b_test.yaml", tmp_path / "c_test.yaml"]) == 1
    assert policy_test_command([tmp_path / "b_test.yaml"]) == 0
