"""Baselines come from measured profiles, the cautious way."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.data import data_dir
from guard.errors import ConfigError
from guard.lab.baseline import find_baseline
from guard.lab.draft import DEFAULT_DRAFT
from guard.lab.profile import load_profile


def test_the_least_acceptance_of_the_depth_counts() -> None:
    profile = load_profile(DEFAULT_DRAFT)
    depth = profile.rows[0].num_speculative_tokens
    rows = [row for row in profile.rows if row.num_speculative_tokens == depth]
    baseline = find_baseline(DEFAULT_DRAFT, depth)
    assert baseline.probability == min(row.acceptance_probability for row in rows)
    assert baseline.k == depth
    assert baseline.usable


def test_without_a_depth_the_one_nearest_to_three_is_taken() -> None:
    assert find_baseline(DEFAULT_DRAFT, None).k in {2, 3, 4}


def test_a_path_works_like_a_name(tmp_path: Path) -> None:
    path = data_dir("draft_models") / DEFAULT_DRAFT / "profile.yaml"
    assert find_baseline(str(path), 3) == find_baseline(DEFAULT_DRAFT, 3)


def test_a_depth_that_was_not_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="depth 60 was not measured"):
        find_baseline(DEFAULT_DRAFT, 60)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"no profile is called 'smollm-drop17', .*; did you mean '{DEFAULT_DRAFT}'"):
        find_baseline("smollm-drop17", 3)


def test_a_profile_may_have_any_name(tmp_path: Path) -> None:
    made = data_dir("draft_models") / DEFAULT_DRAFT / "profile.yaml"
    path = tmp_path / "ours.yaml"
    path.write_bytes(made.read_bytes())
    assert find_baseline(str(path), 3) == find_baseline(DEFAULT_DRAFT, 3)
