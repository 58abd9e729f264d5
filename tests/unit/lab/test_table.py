"""The table a person reads."""

from __future__ import annotations

from pathlib import Path

from guard.lab.backtest import figures
from guard.lab.cases import read_cases
from guard.lab.table import table
from guard.lab.tries import backtest
from guard.shipped import find_policy
from tests.unit.lab.streams import POLICY, corpus, policy_file


def shown(folder: Path, policy: str = POLICY) -> str:
    checked = find_policy(policy_file(folder, policy))
    tried = backtest(checked, list(read_cases(corpus(folder))))
    return table(figures(checked.name, tried), tried)


def test_all_that_matters_is_in_it(tmp_path: Path) -> None:
    text = shown(tmp_path)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "policy trial, 8 cases"
    assert any(line.startswith("garbled 2 2 100.0%") for line in lines)
    assert "repetition 2 0 0.0% - - -" in lines
    assert "ordinary 1 0 0.0%" in lines
    assert "low_accept 1 1 100.0%" in lines
    assert "wrong but fluent, only re-scoring can tell: 1" in lines
    assert "missed: 1" in lines
    assert "repetition/phrase (1): loop" in lines
    assert "stopped before the fault began: 1" in lines
    assert "repetition/- (1 by low): early" in lines
    assert "healthy/weak draft (1 by low): weak" in lines
    assert "taken for another kind" not in text


def test_another_kind_than_the_label_says(tmp_path: Path) -> None:
    text = shown(tmp_path, POLICY.replace("kind: garbled", "kind: repetition"))
    assert "found, but taken for another kind: 2\n  garbled taken for repetition by low: 2" in text


def test_notes_are_not_detections(tmp_path: Path) -> None:
    text = shown(tmp_path, POLICY.replace("action: retry", "action: note"))
    assert "only noted by the policy, and so not counted as detected: 4" in text


def test_healthy_answers_that_waited(tmp_path: Path) -> None:
    # The rule begins to suspect at once, but the acting level is out of reach of full acceptance.
    text = shown(tmp_path, POLICY.replace("from: 3.5, to: 1.5", "from: 5, to: 3.5"))
    assert "healthy answers that waited a while: 2 of 2, at most" in text or "healthy but stopped" in text
