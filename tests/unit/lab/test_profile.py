"""guard.lab.profile: the algebra of acceptance."""

from pathlib import Path

import msgspec
import pytest

from guard.data import data_dir
from guard.errors import ConfigError
from guard.lab.profile import (
    Profile,
    Step,
    load_profile,
    lowest_window,
    make_row,
    mean_acceptance_length,
    position_acceptance,
    quantiles,
)


def test_acceptance_length_counts_the_bonus_token() -> None:
    assert mean_acceptance_length([Step(0, 3), Step(3, 3)]) == 2.5
    with pytest.raises(ValueError, match="no verify step"):
        mean_acceptance_length([])


def test_a_position_counts_only_where_it_was_looked_at() -> None:
    shares, kept, tested = position_acceptance([Step(0, 3), Step(1, 3), Step(3, 3), Step(1, 1)], 3)
    # Position 0 was looked at four times, 1 by the second and third step, 2 by the third.
    assert shares == (0.75, 0.5, 1.0)
    assert (kept, tested) == (5, 7)


def test_two_steps_in_one_chunk_tell_nothing_about_positions() -> None:
    assert position_acceptance([Step(4, 6)], 3) == ((0.0, 0.0, 0.0), 0, 0)


def test_the_lowest_window_slides() -> None:
    steps = [Step(3, 3)] * 4 + [Step(0, 3)] * 2 + [Step(3, 3)] * 4
    assert lowest_window(steps, 2) == 1
    assert lowest_window(steps, 4) == 2.5
    assert lowest_window(steps, 99) == mean_acceptance_length(steps)


def test_quantiles_are_interpolated() -> None:
    assert quantiles([3, 1, 2]) == (1, 1.5, 2, 2.5, 3)
    assert quantiles([7]) == (7, 7, 7, 7, 7)


def test_a_row_sums_up_all_prompts() -> None:
    row = make_row([[Step(3, 3)], [Step(0, 3), Step(0, 3)]], 3, 0.7, 31.25)
    assert row.mean_acceptance_length == 2
    assert row.acceptance_rate == pytest.approx(1 / 3, abs=1e-4)
    assert row.positions_tested == 5
    assert row.prompt_quantiles[0] == 1
    assert row.prompt_quantiles[-1] == 4


def test_a_profile_is_read_back(tmp_path: Path) -> None:
    rows = tuple(make_row([[Step(1, 3)]], 3, temperature, 10.0) for temperature in (0.0, 0.7))
    profile = Profile("small", "e", "c", 1, 8, (), rows)
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "profile.yaml").write_bytes(msgspec.yaml.encode(profile))
    assert load_profile("small", tmp_path) == profile
    assert profile.row(3, 0.6).temperature == 0.7
    with pytest.raises(KeyError, match="depth 9"):
        profile.row(9)


def test_an_absent_profile_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"python -m guard\.lab\.measure"):
        load_profile("small", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("draft: ", "draft: 2020-13-45 # ", r"profile.yaml:1: draft: not valid YAML"),
        ("draft: ", "draft: [ ", "not valid YAML"),
        ("draft: ", "draft: \x00", "not valid YAML"),
        ("rows:", "rows: []\nold:", "unknown setting 'old'"),
        ("acceptance_probability: ", "acceptance_probability: .nan # ", r"rows\[0\].acceptance_probability"),
        ("acceptance_probability: ", "acceptance_probability: 5 # ", "between 0 and 1"),
        ("positions_tested: ", "positions_tested: -1 # ", "are counts"),
        ("positions_tested: ", "positions_tested: many # ", r"profile.yaml:\d+: .*expected a whole number, got text"),
    ],
)
def test_a_broken_profile_is_told_by_its_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    good = (data_dir("draft_models") / "smollm2-135m-drop17" / "profile.yaml").read_text()
    bad = "\n".join(line for line in good.splitlines() if not line.startswith("#")).replace(old, new, 1)
    (tmp_path / "profile.yaml").write_text(bad)
    with pytest.raises(ConfigError, match=said) as failed:
        load_profile("", tmp_path)
    assert "\n" not in str(failed.value)


def test_a_profile_without_rows_is_none(tmp_path: Path) -> None:
    good = (data_dir("draft_models") / "smollm2-135m-drop17" / "profile.yaml").read_text()
    (tmp_path / "profile.yaml").write_text(good.partition("rows:")[0] + "rows: []\n")
    with pytest.raises(ConfigError, match="nothing was measured"):
        load_profile("", tmp_path)


def test_every_shipped_draft_has_a_valid_profile() -> None:
    for path in data_dir("draft_models").glob("*/recipe.yaml"):
        profile = load_profile(path.parent.name)
        assert profile.draft == path.parent.name
        for row in profile.rows:
            assert 1 <= row.mean_acceptance_length <= row.num_speculative_tokens + 1
            assert len(row.position_acceptance) == row.num_speculative_tokens
