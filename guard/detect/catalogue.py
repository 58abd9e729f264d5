"""The signals a policy may name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from guard.types import SignalSpec, Unit

_STEPS = (Unit.TOKENS, Unit.STEPS)
_TEXT = (Unit.CHARACTERS,)


def _spec(
    name: str, low: float, high: float, unit: str, windows: tuple[Unit, ...], needs: bool, text: str
) -> SignalSpec:
    return SignalSpec(name=name, low=low, high=high, unit=unit, window_units=windows, needs_acceptance=needs, help=text)


_ALL = (
    _spec("tokens", 0, math.inf, "tokens", (), False, "Tokens of this choice so far."),
    _spec(
        "acceptance_length", 1, math.inf, "tokens", _STEPS, True,
        "Mean tokens per verify step, the bonus token counted; steps without a draft left out.",
    ),
    _spec("acceptance_rate", 0, 1, "share", _STEPS, True, "Draft tokens kept, of all that were drafted."),
    _spec(
        "acceptance_probability", 0, 1, "share", _STEPS, True,
        "Chance that one judged draft token was kept; comparable across draft depths.",
    ),
    _spec(
        "acceptance_fall", 0, 1, "share", _STEPS, True,
        "How far that chance is below the deployment's baseline, or below this stream's own earlier part.",
    ),
    _spec("undrafted", 0, 1, "share", _STEPS, True, "Verify steps that had no draft, of all steps."),
    _spec(
        "repetition_count", 1, math.inf, "times", (), False,
        "Whole repeats of the passage the text ends in; 1 when nothing repeats.",
    ),
    _spec("repetition_tokens", 0, math.inf, "tokens", (), False, "Tokens the current repetition covers."),
    _spec(
        "repetition_characters", 0, math.inf, "characters", (), False,
        "Characters the current repetition covers.",
    ),
    _spec(
        "repetition_letters",
        0,
        1,
        "share",
        (),
        False,
        "Letters in the repeated passage; 0 for rules, blank space and tables of figures.",
    ),
    _spec(
        "blank_lines", 0, math.inf, "lines", (), False,
        "Line ends that the text ends in, blank space between them allowed.",
    ),
    _spec(
        "word_recurrence", 0, 1, "share", _TEXT, False,
        "Words of the window that it already had; prose 0.1 to 0.4, word salad near 0, loops above 0.6.",
    ),
    _spec(
        "rare_characters", 0, 1, "share", _TEXT, False,
        "Replacement, private-use, unassigned, control and surrogate characters, of all.",
    ),
    _spec(
        "script_salad", 0, 1, "share", _TEXT, False,
        "Letters outside Latin, Greek and one more script, where scripts switch inside words.",
    ),
    _spec(
        "garble", 0, 1, "joints per word", _TEXT, False,
        "Broken word shapes (case, digits or marks inside words), above what this text had before.",
    ),
)  # fmt: skip

#: Every signal by its name.
CATALOGUE: Mapping[str, SignalSpec] = MappingProxyType({spec.name: spec for spec in _ALL})


def markdown_table(catalogue: Mapping[str, SignalSpec] = CATALOGUE) -> str:
    """The catalogue as a Markdown table, as it stands in policies/README.md."""
    lines = [
        "| signal | range | unit | window in | needs acceptance | measures |",
        "|---|---|---|---|---|---|",
    ]
    for spec in catalogue.values():
        high = "" if math.isinf(spec.high) else f"{spec.high:g}"
        windows = ", ".join(spec.window_units) or "takes none"
        needs = "yes" if spec.needs_acceptance else "no"
        lines.append(f"| `{spec.name}` | {spec.low:g} to {high} | {spec.unit} | {windows} | {needs} | {spec.help} |")
    return "\n".join(line.replace("to  |", "up |") for line in lines)
