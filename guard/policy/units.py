"""Durations and windows: a whole number and a unit."""

from __future__ import annotations

import difflib
import re

from guard.types import Unit, Window

_DURATION = re.compile(r"\s*(\d{1,9})\s+([a-z]+)\s*")
#: Largest size of a window in each unit, and longest duration in tokens: a stream's memory is bounded.
LARGEST = {Unit.TOKENS: 4096, Unit.STEPS: 4096, Unit.CHARACTERS: 16384}
LONGEST = 1_000_000
_UNITS = {unit.value: unit for unit in Unit} | {unit.value[:-1]: unit for unit in Unit}


def parse_window(text: str) -> Window:
    """
    Read "48 tokens".

    Raises:
        ValueError: It is not a whole number followed by tokens, steps or characters.
    """
    match = _DURATION.fullmatch(text)
    if match is None or match[2] not in _UNITS:
        number = re.match(r"\s*(\d+)(?:\.\d+)?\s*([A-Za-z]*)", text)
        hint = f"; did you mean '{number[1]} {_nearest_unit(number[2])}'?" if number else ""
        raise ValueError(f"{text!r} is not '<number> tokens', '<number> steps' or '<number> characters'{hint}")
    return Window(size=int(match[1]), unit=_UNITS[match[2]])


def _nearest_unit(word: str) -> str:
    close = difflib.get_close_matches(word.lower(), _UNITS, n=1)
    begun = [unit.value for unit in Unit if word and unit.value.startswith(word.lower().removesuffix("s"))]
    return (_UNITS[close[0]].value if close else "") or next(iter(begun), Unit.TOKENS.value)


def parse_tokens(text: str) -> int:
    """
    Read a duration that can only be in tokens.

    Raises:
        ValueError: It is not one.
    """
    window = parse_window(text)
    if window.unit is not Unit.TOKENS:
        raise ValueError(f"{text!r} must be given in tokens; write '{window.size} tokens'")
    if window.size > LONGEST:
        raise ValueError(f"{text!r} is longer than any answer; at most {LONGEST} tokens")
    return window.size
