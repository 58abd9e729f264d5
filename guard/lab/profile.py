"""What a draft's acceptance was measured to be: the numbers, and the file they stand in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from guard.data import data_dir, looked_for, read_text
from guard.errors import ConfigError
from guard.yamldoc import Document, to_struct

#: Quantiles over prompts that a profile gives.
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Step(msgspec.Struct, frozen=True, gc=False):
    """One verify step: draft tokens kept and proposed, bonus excluded. Unit: tokens."""

    accepted: int
    drafted: int


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Acceptance at one depth and temperature.

    Args:
        num_speculative_tokens: Draft depth. Unit: tokens.
        temperature: Sampling temperature.
        mean_acceptance_length: Tokens per verify step over all prompts, bonus included.
        acceptance_rate: Accepted of drafted tokens.
        position_acceptance: Chance that the draft token at each position is kept, given that it was
            looked at, which it is when all before it were kept.
        acceptance_probability: The same over all positions together.
        positions_tested: Draft tokens looked at: what `acceptance_probability` rests on.
        prompt_quantiles: Mean acceptance length of single prompts, at QUANTILES.
        lowest_window: Least acceptance length of any 16 verify steps in a row.
        tokens_per_second: Generation speed.
    """

    num_speculative_tokens: int
    temperature: float
    mean_acceptance_length: float
    acceptance_rate: float
    position_acceptance: tuple[float, ...]
    acceptance_probability: float
    positions_tested: int
    prompt_quantiles: tuple[float, ...]
    lowest_window: float
    tokens_per_second: float


class PlainRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Generation speed without speculation."""

    temperature: float
    tokens_per_second: float


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    All that was measured of one draft.

    Args:
        draft: Name of its recipe.
        engine: Engine and version.
        conditions: Machine and settings, for people.
        num_prompts: Prompts of each row.
        tokens_per_prompt: Most tokens generated for each.
        plain: Speed without speculation.
        rows: Acceptance by depth and temperature.
    """

    draft: str
    engine: str
    conditions: str
    num_prompts: int
    tokens_per_prompt: int
    plain: tuple[PlainRow, ...]
    rows: tuple[Row, ...]

    def row(self, num_speculative_tokens: int, temperature: float = 0.0) -> Row:
        """
        The row of a depth, at the measured temperature nearest to one asked for.

        Raises:
            KeyError: The depth was not measured.
        """
        rows = [row for row in self.rows if row.num_speculative_tokens == num_speculative_tokens]
        if not rows:
            raise KeyError(f"{self.draft} was not measured at depth {num_speculative_tokens}")
        return min(rows, key=lambda row: abs(row.temperature - temperature))


def load_profile(name: str, folder: Path | None = None) -> Profile:
    """
    Read `<name>/profile.yaml`.

    Args:
        name: Folder of the draft.
        folder: Where drafts stand; the project's by default.

    Raises:
        ConfigError: It is absent or not valid.
    """
    return read_profile((folder or data_dir("draft_models")) / name / "profile.yaml")


def read_profile(path: Path) -> Profile:
    """
    Read a profile from its file.

    Raises:
        ConfigError: It is absent or not valid; with its line.
    """
    try:
        text = read_text(path)
    except ConfigError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise ConfigError(
            f"no such profile{looked_for(path)}; `guard calibrate` makes one from recorded traffic, "
            "`python -m guard.lab.measure` measures one of draft_models/",
            path=str(path),
        ) from error
    document = Document(text, str(path))
    profile = to_struct(document, Profile)
    if not profile.rows:
        document.fail("rows", "nothing was measured: there is no row")
    for number, row in enumerate(profile.rows):
        # What a baseline is made of; a NaN is in no range.
        if not 0 <= row.acceptance_probability <= 1:
            document.fail(f"rows[{number}].acceptance_probability", "a probability is between 0 and 1")
        if row.positions_tested < 0 or row.num_speculative_tokens < 1:
            document.fail(f"rows[{number}]", "depth and positions tested are counts; the depth is 1 at least")
    return profile


def position_acceptance(steps: Sequence[Step], depth: int) -> tuple[tuple[float, ...], int, int]:
    """
    Acceptance by draft position.

    A step that kept `accepted` of `drafted` looked at one position more than it kept, unless it kept
    them all.

    Args:
        steps: Verify steps; those that drafted more than `depth` are two in one and left out.
        depth: Draft depth. Unit: tokens.

    Returns:
        Acceptance at each position (0 where none was looked at), tokens kept, and positions looked at.
    """
    kept = [0] * depth
    tested = [0] * depth
    for step in steps:
        if step.drafted > depth:
            continue
        for position in range(min(step.accepted + 1, step.drafted)):
            tested[position] += 1
            kept[position] += position < step.accepted
    shares = tuple(round(k / t, 4) if t else 0.0 for k, t in zip(kept, tested, strict=True))
    return shares, sum(kept), sum(tested)


def mean_acceptance_length(steps: Sequence[Step]) -> float:
    """
    Mean tokens emitted per verify step, the bonus token included.

    Raises:
        ValueError: No step was observed.
    """
    if not steps:
        raise ValueError("no verify step was observed")
    return 1 + sum(step.accepted for step in steps) / len(steps)


def lowest_window(steps: Sequence[Step], size: int = 16) -> float:
    """Least mean acceptance length of `size` verify steps in a row, or of all when there are fewer."""
    starts = range(max(len(steps) - size, 0) + 1)
    return min(mean_acceptance_length(steps[start : start + size]) for start in starts)


def quantiles(values: Sequence[float]) -> tuple[float, ...]:
    """Values at QUANTILES, linearly interpolated."""
    ordered = sorted(values)
    result = []
    for share in QUANTILES:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        result.append(round(ordered[low] + (ordered[high] - ordered[low]) * (place - low), 3))
    return tuple(result)


def make_row(prompts: Sequence[Sequence[Step]], depth: int, temperature: float, tokens_per_second: float) -> Row:
    """
    Sum up one depth and temperature.

    Args:
        prompts: The verify steps of each prompt.
        depth: Draft depth. Unit: tokens.
        temperature: Sampling temperature.
        tokens_per_second: Generation speed over all prompts.
    """
    steps = [step for prompt in prompts for step in prompt]
    shares, kept, tested = position_acceptance(steps, depth)
    accepted, drafted = sum(s.accepted for s in steps), sum(s.drafted for s in steps)
    return Row(
        num_speculative_tokens=depth,
        temperature=temperature,
        mean_acceptance_length=round(mean_acceptance_length(steps), 3),
        acceptance_rate=round(accepted / max(drafted, 1), 4),
        position_acceptance=shares,
        acceptance_probability=round(kept / max(tested, 1), 4),
        positions_tested=tested,
        prompt_quantiles=quantiles([mean_acceptance_length(prompt) for prompt in prompts]),
        lowest_window=round(min(lowest_window(prompt) for prompt in prompts), 3),
        tokens_per_second=round(tokens_per_second, 1),
    )
