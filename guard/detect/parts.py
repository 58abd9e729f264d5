"""What the detectors of a window give for one signal: its reading, where that began, and the reason in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_WHY: Final = {
    "garble": "{value:.2f} broken joints a word above the text before",
    "joints": "{value:.2f} broken joints a word",
    "word_recurrence": "{value:.0%} of words come back within the window",
    "recurrence_fall": "words come back {value:.0%} less than before",
    "rare_characters": "{value:.0%} of characters are replacement, private-use, unassigned or control",
    "odd_characters": "{value:.0%} of characters are styled letters of mathematics or dingbats",
    "symbol_salad": "{value:.2f} different pairs of marks per character",
    "familiar_words": "{value:.0%} of the words stand in phrases said twice before",
    "fresh_words": "{value:.0%} of the words are new",
    "stutter": "{value:.0%} of the words are the one before again",
    "word_clash": "{value:.0%} of function words cannot follow the word before",
    "function_words": "{value:.0%} of the words are those that sentences need",
    "unpunctuated": "{value:.0f} words follow each other without a mark",
    "figure_salad": "figures and marks without a line end, {value:.0%} of them as before",
    "pair_recurrence": "{value:.1%} of the pairs of ideographs come again",
    "special_tokens": "{value:.0f} special tokens stand written out",
    "glued_words": "{value:.0%} of characters are words glued together",
    "renumbered": "{value:.0f} rows in a row are one that stood there, with figures put to it",
    "same_numbers": "{value:.0f} rows in a row hold the same number",
    "same_items": "{value:.0f} list items in a row say nothing new",
    "counting": "{value:.0f} numbers in a row count up by one",
    "counted_words": "{value:.0f} sentences in a row differ in a numeral alone",
    "nested_again": "{value:.0f} levels nested in each other say the same",
    "cycle_words": "the latest {value:.0f} words are one passage over and over",
}
_NAMED: Final = {
    "odd_kinds": "{count} unrelated kinds of signs",
    "stray_scripts": "single words of {count} scripts that nobody asked for",
}


class Parts:
    """
    One signal over one window.

    Args:
        value: Its reading.
        onset: Pages back from the end at which what it shows began.
        names: Scripts it saw, for the reason.
    """

    __slots__ = ("names", "onset", "value")

    def __init__(
        self,
        value: Callable[[], float],
        onset: Callable[[], int] | int,
        names: Callable[[], list[str]] | None = None,
    ) -> None:
        self.value = value
        self.onset = onset
        self.names = names

    def pages_back(self) -> int:
        """Pages back from the end at which what it shows began."""
        return self.onset if isinstance(self.onset, int) else self.onset()

    def why(self, name: str, value: float) -> str:
        """One clause a person can read; empty when there is nothing better than the figure."""
        if self.names is not None:
            names = self.names()
            what = _NAMED.get(name, "letters of {count} unrelated scripts glued together")
            return f"{what.format(count=len(names))} ({', '.join(names[:6]).lower()})"
        return _WHY[name].format(value=value) if name in _WHY else ""
