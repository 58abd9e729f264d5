"""A deployment's healthy acceptance, taken from the measured profile of its draft."""

from __future__ import annotations

from pathlib import Path

from guard.data import data_dir
from guard.detect.baseline import Baseline
from guard.errors import ConfigError
from guard.lab.profile import Row, load_profile, read_profile
from guard.yamldoc import nearest


def find_baseline(profile: str, num_speculative_tokens: int | None) -> Baseline:
    """
    The baseline that a profile gives for a draft depth.

    Of the temperatures measured the one with the least acceptance counts: traffic comes at all
    temperatures, and a baseline that is too high would make healthy streams look fallen.

    Args:
        profile: Name of a folder in draft_models/, or the path of a profile.
        num_speculative_tokens: Draft depth; None takes the depth measured that is nearest to 3.

    Raises:
        ConfigError: There is no such profile, or the depth was not measured.
    """
    path = Path(profile)
    if not path.suffix and profile not in (known := _shipped()):
        made = "a file is named with its ending (.yaml), and `guard calibrate` makes one"
        raise ConfigError(f"no profile is called {profile!r}, {made}; {nearest(profile, known)}")
    found = read_profile(path) if path.suffix else load_profile(profile)
    depths = {row.num_speculative_tokens for row in found.rows}
    depth = num_speculative_tokens or min(depths, key=lambda measured: (abs(measured - 3), measured))
    rows = [row for row in found.rows if row.num_speculative_tokens == depth]
    if not rows:
        measured = ", ".join(map(str, sorted(depths)))
        raise ConfigError(f"depth {depth} was not measured (measured: {measured})", path=profile)
    row = min(rows, key=_probability)
    return Baseline(row.acceptance_probability, float(row.positions_tested), depth)


def _shipped() -> list[str]:
    return [path.parent.name for path in data_dir("draft_models").glob("*/profile.yaml")]


def _probability(row: Row) -> float:
    return row.acceptance_probability
