"""Verdicts held against labels, and what is counted of them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from guard.errors import ConfigError
from guard.lab.backtest import (
    as_json,
    backtest_command,
    baselines_for,
    broken_limits,
    figures,
    parse_limits,
)
from guard.lab.cases import Case, read_cases
from guard.lab.draft import DEFAULT_DRAFT
from guard.lab.tries import Tried, backtest
from guard.shipped import find_policy
from tests.unit.lab.streams import corpus, policy_file


def tried(folder: Path, **options: Any) -> list[Tried]:
    return backtest(find_policy(policy_file(folder)), list(read_cases(corpus(folder))), **options)


def arguments(folder: Path, **given: object) -> argparse.Namespace:
    values: dict[str, object] = {
        "policy": policy_file(folder), "cases": [corpus(folder)], "json": True, "baseline": None, "html": None,
        "require": None, "jobs": 1, "against": None, **given,
    }  # fmt: skip
    return argparse.Namespace(**values)


def test_the_json_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert backtest_command(arguments(tmp_path)) == 0
    found = json.loads(capsys.readouterr().out)
    delays = sorted(one.delay for one in tried(tmp_path) if one.delay is not None)
    shown = sorted(one.bad_shown for one in tried(tmp_path) if one.bad_shown is not None)
    assert found == {
        "policy": "trial",
        "cases": 8,
        "kinds": {
            "garbled": {
                "cases": 2,
                "detected": 2,
                "recall": 1.0,
                "delay_tokens_median": sum(delays) / 2,
                "delay_tokens_p90": delays[1],
                "bad_tokens_shown_median": sum(shown) / 2,
                "bad_tokens_shown_p90": shown[1],
            },
            "repetition": {
                "cases": 2,
                "detected": 0,
                "recall": 0.0,
                "delay_tokens_median": None,
                "delay_tokens_p90": None,
                "bad_tokens_shown_median": None,
                "bad_tokens_shown_p90": None,
            },
        },
        "healthy": {
            "cases": 3,
            "false_positives": 1,
            "rate": 0.3333,
            "by_hard_negative": {
                "null": {"cases": 1, "false_positives": 0},
                "high_accept": {"cases": 1, "false_positives": 0},
                "low_accept": {"cases": 1, "false_positives": 1},
            },
        },
        "rescore_only": {"cases": 1, "acted": 0},
        "misses": ["loop", "early"],
        "false_positive_ids": ["weak", "early"],
    }


def test_no_cases_of_a_kind_are_no_figures() -> None:
    found = figures("p", [])
    assert (found.kinds, found.healthy.rate) == ({}, 0.0)
    assert broken_limits(found, parse_limits("recall=1,fp=0,fp_ordinary=0,delay_median=0,delay_p90=0")) == []


def test_demands_that_are_not_met_are_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert backtest_command(arguments(tmp_path, require="recall=0,fp=0.4,fp_ordinary=0")) == 0
    assert backtest_command(arguments(tmp_path, require="recall=0.5,fp=0.1,delay_median=1,delay_p90=1000")) == 1
    said = capsys.readouterr().err
    assert "not met: recall: least recall of any kind is 0; asked for at least 0.5" in said
    assert "not met: fp: share of healthy cases stopped is 0.3333; asked for at most 0.1" in said
    assert "delay_median" in said
    assert "delay_p90" not in said


@pytest.mark.parametrize("text", ["recal=1", "recall", "recall=2", "fp=-1", "fp=nan", "delay_p90=soon", ""])
def test_demands_are_checked(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--require: "):
        parse_limits(text)


def test_baselines_by_number_and_by_profile() -> None:
    assert {depth: found.probability for depth, found in baselines_for("0.8", [3, 0, 5, 3]).items()} == {3: 0.8, 5: 0.8}
    found = baselines_for(DEFAULT_DRAFT, [3])
    assert found[3].k == 3
    assert 0 < found[3].probability < 1
    with pytest.raises(ConfigError, match="is no acceptance probability"):
        baselines_for("1.5", [3])
    with pytest.raises(ConfigError, match="not measured"):
        baselines_for(DEFAULT_DRAFT, [64])


def test_no_cases_at_all_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(ConfigError, match="no cases in"):
        backtest_command(arguments(tmp_path, cases=[empty]))


def test_the_report_is_written_beside_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    assert backtest_command(arguments(tmp_path, html=out, json=False, baseline="0.9")) == 0
    assert "policy trial, 8 cases" in capsys.readouterr().out
    assert out.read_text().startswith("<!doctype html>")
    assert f"Of {corpus(tmp_path)}; baseline: 0.9." in out.read_text()
    assert " part on " not in out.read_text()


def test_the_report_says_what_it_is_of_and_where_a_second_policy_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes, out = tmp_path / "<shapes>.jsonl", tmp_path / "report.html"
    shapes.write_text(json.dumps(json.loads(Path(corpus(tmp_path)).read_text().splitlines()[0]) | {"text": "redacted"}))
    assert backtest_command(arguments(tmp_path, cases=[shapes], html=out, against="published")) == 0
    said = out.read_text()
    assert f"Of {tmp_path}/&lt;shapes&gt;.jsonl; baseline: none." in said
    assert '<p class="soft lines">The text of 1 of 1 cases is redacted' in said
    assert "trial and published part on " in said
    assert "the text of 1 of 1 cases is redacted" in capsys.readouterr().err


def test_a_second_policy_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert backtest_command(arguments(tmp_path, json=False, against="published")) == 0
    said = capsys.readouterr().out
    assert "trial and published part on " in said
    assert "  detected / missed (" in said
    assert backtest_command(arguments(tmp_path, against="published")) == 0
    told = json.loads(capsys.readouterr().out)["against"]
    assert told["policy"] == "published"
    assert f"part on {told['parts_on']} of 8 cases" in said
    missed = [part["ids"] for part in told["parts"] if (part["outcome"], part["against"]) == ("detected", "missed")]
    assert missed
    assert ", ".join(missed[0]) in said
    assert sum(len(part["ids"]) for part in told["parts"]) == told["parts_on"]


def test_an_unlabelled_depth_has_no_baseline(tmp_path: Path) -> None:
    cases: list[Case] = list(read_cases(corpus(tmp_path)))
    policy = find_policy(policy_file(tmp_path))
    assert as_json(figures("p", backtest(policy, cases, {}))) == as_json(figures("p", backtest(policy, cases, None)))
