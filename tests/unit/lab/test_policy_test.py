"""Tests of policies are read strictly, run through the live monitor, and fail readably."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.data import data_dir
from guard.errors import ConfigError
from guard.lab.policy_test import Report, find_tests, run_file
from guard.shipped import find_policy
from tests.unit.lab.streams import UNLIKELY

POLICY = """
version: 1
name: p
rules:
  - {name: blank, kind: repetition, action: retry, when: {signal: blank_lines, from: 4, to: 20}}
  - {name: slow, kind: garbled, action: cut, when: {signal: acceptance_length, window: 16 tokens, below: 1.2}}
"""
LINES = '  - name: lines\n    stream: [{text: "one two three four "}, {text: "\\n", repeat: 96, token_characters: 1}]\n'


def run(folder: Path, text: str) -> Report:
    (folder / "p.yaml").write_text(POLICY)
    file = folder / "p_test.yaml"
    file.write_text(text)
    return run_file(file, find_policy)


def passes(folder: Path, text: str) -> bool:
    return not run(folder, text).failures


@pytest.mark.parametrize("path", sorted(data_dir("policies").glob("*_test.yaml")), ids=lambda path: path.stem)
def test_the_shipped_policies_pass_their_tests(path: Path) -> None:
    assert [str(failure) for failure in run_file(path, find_policy).failures] == []


@pytest.mark.parametrize(
    "expect",
    [
        "retry",
        "{action: retry, kind: repetition, rule: blank, by_token: 60, not_before_token: 20, held: true}",
        "{action: retry, rule: [slow, blank]}",
    ],
)
def test_a_stream_that_comes_to_what_was_expected(tmp_path: Path, expect: str) -> None:
    assert passes(tmp_path, f"tests:\n{LINES}    expect: {expect}\n")


@pytest.mark.parametrize(("prompt", "action"), [("Tell me more.", "retry"), ("Count with me.", "pass"), ("", "pass")])
def test_the_prompt_is_known(tmp_path: Path, prompt: str, action: str) -> None:
    counted = '{text: "{n} ", repeat: 80, numbered: true, token_characters: 1}'
    rule = "  - {name: counted, kind: repetition, action: retry, when: {signal: counting, from: 20, to: 30}}\n"
    (tmp_path / "p.yaml").write_text(POLICY + rule)
    file = tmp_path / "p_test.yaml"
    file.write_text(f"tests:\n  - {{name: one, prompt: '{prompt}', stream: [{counted}], expect: {action}}}\n")
    assert not run_file(file, find_policy).failures


def test_the_report_says_where_what_and_why(tmp_path: Path) -> None:
    wrong = "{action: retry, kind: garbled, rule: slow, by_token: 9, held: false}"
    report = run(tmp_path, f"tests:\n{LINES}    expect: {wrong}\n")
    assert (report.policy, report.tests) == ("p", 1)
    lines = str(report.failures[0]).splitlines()
    assert lines[0] == f"{tmp_path}/p_test.yaml:2: lines"
    assert lines[1:3] == ["    expected kind garbled, got repetition", "    expected rule slow, got blank"]
    assert lines[3].startswith("    expected it by token 9, got it at ")
    assert lines[4] == "    text was held, but none should be"
    assert "line ends follow each other" in lines[5]
    assert lines[6].startswith("    highest suspicion 1.00, at token ")


def test_a_stream_that_passed_says_so(tmp_path: Path) -> None:
    text = "tests:\n  - {name: a, stream: [{text: fine}], expect: {action: retry, held: true}}\n"
    shown = str(run(tmp_path, text).failures[0])
    assert "expected retry, got pass" in shown
    assert "the stream passed: 1 tokens" in shown
    assert "no text was held" in shown


def test_too_early_is_wrong_as_well(tmp_path: Path) -> None:
    report = run(tmp_path, f"tests:\n{LINES}    expect: {{action: retry, not_before_token: 90}}\n")
    assert "not before token 90" in str(report.failures[0])


@pytest.mark.parametrize(
    ("segment", "action"),
    [
        ("{text: abcd, repeat: 40, accepted: 0}", "cut"),
        ("{text: abcd, repeat: 40, accepted: [2, 3]}", "pass"),
        ("{text: abcd, repeat: 40}", "pass"),
        ("{text: abcd, repeat: 40, accepted: []}", "pass"),
    ],
)
def test_acceptance_by_segment(tmp_path: Path, segment: str, action: str) -> None:
    assert passes(tmp_path, f"tests:\n  - {{name: a, stream: [{segment}], expect: {action}}}\n")


def test_what_the_file_says_holds_for_all_segments(tmp_path: Path) -> None:
    tests = "tests:\n  - {name: a, stream: [{text: abcd, repeat: 40}], expect: cut}\n"
    assert passes(tmp_path, "accepted: 0\n" + tests)
    assert not passes(tmp_path, "accepted: 2\n" + tests)


def test_texts_by_name_numbered_drawn_and_borrowed(tmp_path: Path) -> None:
    (tmp_path / "q_test.yaml").write_text('texts: {gap: "\\n"}\ntests: []\n')
    text = (
        'texts_from: q_test.yaml\ntexts: {row: "row {n}\\n"}\ntests:\n'
        "  - {name: rows, stream: [{use: row, repeat: 50, numbered: true}], expect: pass}\n"
        "  - {name: gaps, stream: [{use: gap, repeat: 64}], expect: retry}\n"
        "  - {name: part, stream: [{use: gap, repeat: 64, skip: 60, characters: 3}], expect: pass}\n"
        '  - {name: draw, stream: [{draw: {pieces: ["\\n", " \\n"], count: 90}, channel: reasoning}], expect: retry}\n'
    )
    report = run(tmp_path, text)
    assert [failure.name for failure in report.failures] == []
    assert report.tests == 4


@pytest.mark.parametrize(
    ("test", "where", "says"),
    [
        ("stream: [{}], expect: pass", "tests[0].stream[0]", "exactly one of text, use, draw; found none"),
        ("stream: [{use: x}], expect: pass", "tests[0].stream[0].use", "no text is called 'x'"),
        ("stream: [], expect: pass", "tests[0].stream", "a stream needs at least one segment"),
        ("stream: [{text: a}], expect: past", "tests[0].expect", "'past' is not known here; did you mean 'pass'?"),
        ('stream: [{text: ""}], expect: pass', "tests[0].stream[0]", "has no text"),
        ("stream: [{text: a, accepted: 4}], expect: pass", "tests[0].stream[0].accepted", "from 0 to drafted (3)"),
        ("stream: [{text: a, acepted: 4}], expect: pass", "tests[0].stream[0].acepted", "did you mean 'accepted'?"),
        ("stream: [{text: a}], expect: {action: retry, rule: blnk}", "tests[0].expect.rule", "did you mean 'blank'?"),
        ("stream: [{text: a}], expect: {action: pass, kind: garbled}", "tests[0].expect.kind", "belongs to a verdict"),
        (
            "stream: [{text: a}], expect: {action: cut, not_before_token: 9, by_token: 8}",
            "tests[0].expect.by_token",
            "not_before_token (9)",
        ),
        ("stream: [{text: a}], expect: hold", "tests[0].expect.action", "write held: true"),
        (
            "stream: [{text: aaaabbbb, repeat: 20000, token_characters: 1, accepted: 0}, "
            "{text: aaaabbbb, repeat: 20000, token_characters: 1}], expect: pass",
            "tests[0].stream[1]",
            "more than 200000 tokens",
        ),
    ],
)
def test_files_refused(tmp_path: Path, test: str, where: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, f"tests:\n  - {{name: a, {test}}}\n")
    assert caught.value.where == where
    assert caught.value.line == 2
    assert says in caught.value.message


def test_a_file_without_tests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one test"):
        run(tmp_path, "tests: []\n")


def test_a_policy_without_a_test_file_beside_it_is_told_where_tests_belong(tmp_path: Path) -> None:
    policy = tmp_path / "mine.yaml"
    policy.write_text(POLICY)
    with pytest.raises(ConfigError, match=r"mine\.yaml: it is a policy, .* in mine_test\.yaml"):
        run_file(find_tests([policy])[0], find_policy)


def test_the_policy_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(POLICY)
    file = tmp_path / "cases.yaml"
    file.write_text("policy: other.yaml\ntests:\n  - {name: a, stream: [{text: a}], expect: pass}\n")
    assert run_file(file, find_policy).failures == []
    file.write_text("policy: default\ntests:\n  - {name: a, stream: [{text: a}], expect: pass}\n")
    assert run_file(file, find_policy).policy == "default"
    file.write_text("tests:\n  - {name: a, stream: [{text: a}], expect: pass}\n")
    with pytest.raises(ConfigError, match="NAME_test"):
        run_file(file, find_policy)


def test_a_policy_that_is_not_there_is_told_of_the_test_file(tmp_path: Path) -> None:
    test = "tests:\n  - {name: a, stream: [{text: a}], expect: pass}\n"
    file = tmp_path / "ghost_test.yaml"
    file.write_text(test)
    with pytest.raises(ConfigError, match=r"ghost_test\.yaml:1: policy: \S*ghost\.yaml: cannot be read: .*NAME_test"):
        run_file(file, find_policy)
    file.write_text(f"{test}policy: defualt\n")
    with pytest.raises(ConfigError, match=r"ghost_test\.yaml:3: policy: .* did you mean 'default'\?$"):
        run_file(file, find_policy)
    file.write_text(f"{test}policy: default\ntexts_from: gone.yaml\n")
    with pytest.raises(ConfigError, match=r"ghost_test\.yaml:4: texts_from: \S*gone\.yaml: cannot be read: "):
        run_file(file, find_policy)
    with pytest.raises(ConfigError, match=r"^defualt: no such file or folder, .*: did you mean 'default'\?$"):
        find_tests([Path("defualt")])


def test_files_policies_and_folders_lead_to_test_files(tmp_path: Path) -> None:
    for name in ("a.yaml", "a_test.yaml", "b_test.yaml", "c.yaml"):
        (tmp_path / name).write_text("")
    found = find_tests([tmp_path / "a.yaml", tmp_path / "b_test.yaml", tmp_path / "c.yaml"])
    assert [path.name for path in found] == ["a_test.yaml", "b_test.yaml", "c.yaml"]
    assert [path.name for path in find_tests([tmp_path])] == ["a_test.yaml", "b_test.yaml"]
    assert find_tests([Path("default")]) == [data_dir("policies") / "default_test.yaml"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="has no"):
        find_tests([tmp_path / "empty"])


def test_a_segment_may_tell_how_likely_its_tokens_are(tmp_path: Path) -> None:
    (tmp_path / "u.yaml").write_text(UNLIKELY)
    file = tmp_path / "u_test.yaml"
    file.write_text(
        """
tests:
  - name: unlikely
    stream: [{text: "word by word ", repeat: 20, logprob: -0.5}, {text: "word by word ", repeat: 20, logprob: -5}]
    expect: {action: retry, rule: unlikely, not_before_token: 66, by_token: 80}
  - {name: untold, stream: [{text: "word by word ", repeat: 40}], expect: pass}
"""
    )
    assert [str(failure) for failure in run_file(file, find_policy).failures] == []
