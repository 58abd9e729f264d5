"""What recorded streams do not say is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guard.lab.backtest import backtest_command
from guard.lab.cases import read_cases
from guard.lab.doubts import unmatched, unreadable
from guard.shipped import find_policy
from tests.unit.lab.streams import POLICY, corpus
from tests.unit.lab.test_backtest import arguments


def test_there_is_mostly_nothing_to_say(tmp_path: Path) -> None:
    assert unmatched(find_policy("default")) == []
    assert unreadable(list(read_cases(corpus(tmp_path)))) == []


def test_figures_of_redacted_text_are_not_to_be_believed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path(corpus(tmp_path)).read_text().splitlines()
    shapes = tmp_path / "shapes.jsonl"
    shapes.write_text("".join(json.dumps(json.loads(one) | {"text": "redacted"}) + "\n" for one in lines[:3]))
    assert backtest_command(arguments(tmp_path, cases=[shapes, corpus(tmp_path)])) == 0
    said = capsys.readouterr()
    assert said.err.startswith("guard: the text of 3 of 11 cases is redacted")
    assert json.loads(said.out)["cases"] == 11
    assert backtest_command(arguments(tmp_path)) == 0
    assert capsys.readouterr().err == ""


def test_a_policy_for_some_requests_is_said_to_judge_all_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "some.yaml"
    policy.write_text(f'{POLICY}match: {{model: "*coder*"}}\n')
    assert backtest_command(arguments(tmp_path, policy=str(policy))) == 0
    assert capsys.readouterr().err.startswith("guard: trial is for the requests that its match fits; here it judges")
