"""From healthy streams to a profile and to thresholds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from guard.errors import ConfigError
from guard.lab.baseline import find_baseline
from guard.lab.calibrate import (
    baselines_of,
    calibrate,
    calibrate_command,
    in_words,
    likelihood,
    likelihood_in_words,
    steps_of,
    thresholds,
)
from guard.lab.cases import Case, read_cases
from guard.lab.profile import load_profile
from tests.unit.lab.streams import good, line


def cases(folder: Path, *lines: dict[str, Any]) -> list[Case]:
    path = folder / "t.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return list(read_cases(path))


def mixed(steps: int) -> list[list[Any]]:
    """Every third step keeps one of three, the others all."""
    return [["x", 2] if n % 3 == 2 else ["x", 4] for n in range(steps)]


def made(found: list[Case]) -> Any:
    return calibrate(found, draft="d", engine="e", conditions="c")


def test_a_row_for_each_depth_and_temperature(tmp_path: Path) -> None:
    found = cases(
        tmp_path,
        line("a", mixed(30)),
        line("b", good(30)),
        line("c", good(10), temperature=0.7),
        line("d", [["x", 2]] * 20, num_speculative_tokens=1),
        line("e", [["x", 1]] * 20, num_speculative_tokens=0),
    )
    profile = made(found)
    assert [(row.num_speculative_tokens, row.temperature) for row in profile.rows] == [(1, 0.0), (3, 0.0), (3, 0.7)]
    row = profile.row(3)
    assert row.mean_acceptance_length == pytest.approx((50 * 4 + 10 * 2) / 60, abs=1e-3)
    assert row.position_acceptance == (1.0, round(50 / 60, 4), 1.0)
    assert row.prompt_quantiles[0] < row.prompt_quantiles[-1] == 4.0
    assert profile.num_prompts == 4  # the stream without speculation tells nothing
    assert profile.tokens_per_prompt == 120


def test_what_a_step_is(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, line("a", [["a", 1, 0, 0], ["b", 3, 2, 5], ["c", 2, 1, -1]]))
    assert [(step.accepted, step.drafted) for step in steps_of(case)] == [(2, 5), (1, 3)]


def test_the_baseline_is_the_least_of_a_depth(tmp_path: Path) -> None:
    profile = made(cases(tmp_path, line("a", good(30)), line("b", mixed(30), temperature=1.0)))
    assert baselines_of(profile)[3].probability == profile.row(3, 1.0).acceptance_probability < 1


def test_few_windows_are_called_few(tmp_path: Path) -> None:
    found = cases(tmp_path, line("a", mixed(60)), line("b", mixed(60)))
    profile = made(found)
    levels = thresholds(found, baselines_of(profile))
    assert [one.window for one in levels] == [16, 32, 64, 128]
    assert all(not one.resolved and one.streams == 2 for one in levels)
    assert all(0 <= one.median <= one.level < 0.5 for one in levels)
    said = in_words(profile, levels)
    assert "too few to speak of 1 in 10,000" in said
    assert "{signal: acceptance_fall, window: " in said


def test_one_in_ten_thousand_is_read_off_enough_windows(tmp_path: Path) -> None:
    chunks = mixed(10_100)
    chunks[5000:5010] = [["x", 1]] * 10
    found = cases(tmp_path, line("a", chunks))
    levels = thresholds(found, baselines_of(made(found)))
    assert levels[0].resolved
    assert levels[0].level > levels[-1].level  # the dip is short
    said = in_words(made(found), levels)
    assert "would have alarmed on 1 in 10,000 of these 10," in said
    # Advice is of a window of which that can be said.
    few = [one._replace(resolved=one.window == 16) for one in levels]
    assert "{signal: acceptance_fall, window: 16 tokens" in in_words(made(found), few)


def test_traffic_that_falls_by_itself_leaves_no_room(tmp_path: Path) -> None:
    found = cases(tmp_path, line("a", good(200) + [["x", 1]] * 200))
    levels = thresholds(found, baselines_of(made(cases(tmp_path, line("b", good(200))))))
    assert "no evidence" in in_words(made(found), levels)


def test_streams_too_short_for_a_window(tmp_path: Path) -> None:
    found = cases(tmp_path, line("a", good(2)))
    assert "no stream is long enough" in in_words(made(found), thresholds(found, {}))


def test_the_command_writes_what_serve_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases(tmp_path, line("a", mixed(60), engine="vllm"), line("b", good(9), kind="garbled", first_bad_token=3))
    out = tmp_path / "mine" / "profile.yaml"
    args = argparse.Namespace(traces=[tmp_path / "t.jsonl"], out=out, draft=None, engine=None)
    assert calibrate_command(args) == 0
    said = capsys.readouterr()
    assert "1 cases are not healthy and were left out" in said.err
    assert f"written to {out}" in said.out
    profile = load_profile("mine", tmp_path)
    assert (profile.draft, profile.engine, len(profile.rows)) == ("mine", "vllm", 1)
    assert find_baseline(str(out), 3).probability == profile.row(3).acceptance_probability


def test_nothing_to_calibrate_from_is_an_error(tmp_path: Path) -> None:
    cases(tmp_path, line("a", good(3), kind="garbled", first_bad_token=1))
    args = argparse.Namespace(traces=[tmp_path / "t.jsonl"], out=tmp_path / "p.yaml", draft=None, engine=None)
    with pytest.raises(ConfigError, match="no healthy stream in"):
        calibrate_command(args)
    with pytest.raises(ConfigError, match="no stream tells of a verify step"):
        made(cases(tmp_path, line("a", [["x", 1]], num_speculative_tokens=0)))
    cases(tmp_path, line("a", good(9)))
    args.out = Path("/proc/none/p.yaml")
    with pytest.raises(ConfigError, match="cannot be written"):
        calibrate_command(args)


def test_healthy_log_probabilities_are_summed_up_where_they_are_told(tmp_path: Path) -> None:
    told = [[-0.5] * 4] * 30 + [[-2.0] * 4] * 30
    found = cases(tmp_path, line("a", good(60), logprobs=told), line("b", good(60)))
    likely = likelihood(found)
    assert likely is not None
    assert (likely.streams, likely.lowest, likely.fall) == (1, -2.0, 1.5)
    assert -2.0 < likely.median < -0.5
    assert likelihood_in_words(likely).endswith("lowest -2.00 nats; the deepest fall (logprob_fall) was 1.50")
    short = likelihood(cases(tmp_path, line("a", good(20), logprobs=[[-0.5] * 4] * 20)))
    assert short is not None
    assert "deepest fall" not in likelihood_in_words(short)
    assert likelihood(cases(tmp_path, line("b", good(60)))) is None
