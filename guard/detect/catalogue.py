"""The signals a policy may name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from guard.detect.logprob import LEAST
from guard.types import SignalSpec, Unit

_STEPS = (Unit.TOKENS, Unit.STEPS)
_TEXT = (Unit.CHARACTERS,)


def _told(name: str, low: float, high: float, text: str, *, needs_window: bool = False) -> SignalSpec:
    """A signal of log-probabilities."""
    return SignalSpec(
        name, low, high, "nats", (Unit.TOKENS,), False, text, needs_logprobs=True, needs_window=needs_window
    )


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
    _spec(
        "acceptance_drop", 0, 1, "share", _STEPS, True,
        "The same below this stream's own earlier part alone: one that was low from its first token on shows none.",
    ),
    _spec(
        "acceptance_evidence", 0, math.inf, "nats", (), True,
        "How much likelier the latest steps are after a fall than without; e to this power is about the steps "
        "between two false alarms.",
    ),
    _spec(
        "topic_break", 0, 1, "share", (), True,
        "How much less of the words since acceptance fell is known from the prompt and the text before than usual; "
        "at most 0.5 before 60 words have come, unknown with fewer than 180 words before.",
    ),
    _spec(
        "sentence_break", 0, 1, "share", (), True,
        "How much rarer the words that sentences need became where acceptance fell; 0 unless running text of new words "
        "follows, some of them broken; unknown before 320 characters of it, and where no sentences stood before.",
    ),
    _spec(
        "new_words", 0, 1, "share", (), True,
        "New words since acceptance fell, of all words, numbers and runs of marks in the latest 256 characters; 0 "
        "where these have the form of code, tables, notation or data; unknown before 80 characters of it.",
    ),
    _spec(
        "broken_words", 0, 1, "joints per word", (), True,
        "Broken joints of the words since acceptance fell, and marks and signs where they never stand, in the latest "
        "256 characters of them; 0 and unknown where `new_words` is.",
    ),
    _spec(
        "joint_kinds", 0, 16, "kinds", (), True,
        "How many kinds of these there are among the words since acceptance fell, of sixteen: capitals, digits, quotes "
        "and marks inside words, other scripts, hyphens in the air and the like; 0 and unknown where `new_words` is.",
    ),
    _spec("undrafted", 0, 1, "share", _STEPS, True, "Verify steps that had no draft, of all steps."),
    _told(
        "logprob_mean", -LEAST, 0,
        "Mean log-probability of the tokens, each counted as at least -20; unknown unless the client, or the guard of "
        "vLLM, asked for them.",
    ),
    _told(
        "logprob_fall", 0, LEAST,
        "How far that mean is below the median of this stream's own earlier part, of which 48 tokens must have left "
        "the window.",
        needs_window=True,
    ),
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
        "repetition_plain", 0, 1, "share", (), False,
        "Letters, figures, blanks and marks of sentences in the repeated passage; code and markup 0.7 to 0.95.",
    ),
    _spec(
        "repetition_marks", 0, math.inf, "times", (), False,
        "Whole repeats of a passage of marks, emoji and blanks alone; 0 where the prompt names as great a number.",
    ),
    _spec(
        "repetition_figures", 0, math.inf, "times", (), False,
        "Whole repeats of a passage without a letter, of 32 characters and six different figures at least; 0 where the "
        "prompt may ask for figures.",
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
        "recurrence_fall", 0, 1, "share", _TEXT, False,
        "How far that is below what this text had before; 0 where it never was above 0.12.",
    ),
    _spec(
        "rare_characters", 0, 1, "share", _TEXT, False,
        "Replacement, private-use, unassigned, control and surrogate characters, of all.",
    ),
    _spec(
        "odd_characters", 0, 1, "share", _TEXT, False,
        "Styled letters of mathematics, dingbats that are no emoji, Braille and signs of alchemy, not in the prompt, "
        "of all characters.",
    ),
    _spec(
        "odd_kinds", 0, 4, "kinds", _TEXT, False,
        "How many of these four kinds there are.",
    ),
    _spec(
        "stray_scripts", 0, math.inf, "scripts", _TEXT, False,
        "Scripts of single words standing unquoted between Latin ones; 0 unless the prompt is known and asks for no "
        "words of other languages.",
    ),
    _spec(
        "script_salad", 0, 1, "share", _TEXT, False,
        "Letters outside Latin, Greek and one more script, where scripts switch inside words.",
    ),
    _spec(
        "glued_scripts", 0, math.inf, "scripts", _TEXT, False,
        "Foreign scripts, not in the prompt, whose letters touch letters of another; Han and Hangul do by right.",
    ),
    _spec(
        "garble", 0, 1, "joints per word", _TEXT, False,
        "Broken word shapes (case, digits or marks inside words), above what this text had before.",
    ),
    _spec(
        "joints", 0, 1, "joints per word", _TEXT, False,
        "The same as it is; prose 0.02, code and hex dumps up to 0.5.",
    ),
    _spec(
        "symbol_salad", 0, 1, "pairs per character", _TEXT, False,
        "Different pairs of unlike marks side by side; code 0.05, marks drawn at random above 0.2.",
    ),
    _spec(
        "word_clash", 0, 1, "share", _TEXT, False,
        "English function words that cannot follow the word before them (`the of`); prose 0 to 0.1, salad 0.2 to 0.5.",
    ),
    _spec(
        "function_words", 0, 1, "share", _TEXT, False,
        "Words that every sentence needs (`the`, `und`, `que`), of all, in the language that has most of them; "
        "prose 0.2 to 0.6, salad and names below 0.15.",
    ),
    _spec(
        "unpunctuated", 0, math.inf, "words", (), False,
        "Words in a row without a mark, digit or line end; prose 5 to 25, salad without end; 0 where the prompt asks "
        "for bare words.",
    ),
    _spec(
        "figure_salad", 0, 1, "share", _TEXT, False,
        "Figures and marks that, with the two before them, the window already had; 0 where there are letters or line "
        "ends, as in tables.",
    ),
    _spec(
        "special_tokens", 0, math.inf, "tokens", _TEXT, False,
        "Special tokens written out (`<|end|>`, `<0x9F>`, `[PAD]`); 0 where the prompt is about them.",
    ),
    _spec(
        "pair_recurrence", 0, 1, "share", _TEXT, False,
        "Pairs of ideographs or kana that the window already had; Chinese and Japanese 0.05 to 0.5, salad 0.01.",
    ),
    _spec(
        "glued_words", 0, 1, "share", _TEXT, False,
        "Characters in runs of 20 and more lower-case letters; prose and code below 0.2, glued words above 0.3.",
    ),
    _spec(
        "familiar_words", 0, 1, "share", _TEXT, False,
        "Words in phrases that the text already had twice, counters left out; 0 where letters are few, and where "
        "the prompt asks for code, a refrain or something done round by round, or for a list and its items are not "
        "all the same.",
    ),
    _spec(
        "fresh_words", 0, 1, "share", _TEXT, False,
        "Words and numbers new to the latest 600 words, of all words of the window; where the text goes round in "
        "longer rounds, those of a whole round count; near 0 only where nothing new is said.",
    ),
    _spec(
        "stutter", 0, 1, "share", _TEXT, False,
        "Words that are the word before them again; prose 0, a stutter above 0.3.",
    ),
    _spec(
        "cycle_words", 0, math.inf, "words", (), False,
        "Words that a passage covers whose words have stood there three times and more, whatever marks and blanks "
        "stand between them; 0 for figures, and where the prompt asks for a refrain.",
    ),
    _spec(
        "same_items", 0, math.inf, "items", (), False,
        "List items in a row, of ten characters and more, that are the same but for their number; 0 where the prompt "
        "asks for records, for code or for a refrain, or is not in English. Where it asks for five rows or more and "
        "half as many again have come: rows in a row that stood there before, figures aside.",
    ),
    _spec(
        "renumbered", 0, math.inf, "rows", (), False,
        "Rows in a row that are a row of the same list or table which had no figures (`red`, then `red 1`, `red 2`), "
        "but for their figures; 0 where the prompt names as great a number, or may ask for stand-ins.",
    ),
    _spec(
        "same_numbers", 0, math.inf, "rows", (), False,
        "Rows of a list or table, from its first on, that all hold one number of twelve figures and more, six of them "
        "different, under numbers that climb by one; 0 where the prompt has figures or may ask for some.",
    ),
    SignalSpec(
        "sameness", 0, 1, "share", (Unit.TOKENS,), False,
        "1 less the bytes for each of the latest tokens that it takes to write them down for who knows half as many "
        "before them; prose 0, rows of a table and moves of a game 0.4 to 0.8, exact loops above 0.8; 0 where the "
        "prompt asks for records, verse, code or a pattern, is not known, or is not in English.", needs_window=True,
    ),
    _spec(
        "counting", 0, math.inf, "numbers", (), False,
        "Numbers in a row that count up by one with no word between, those of items in which nothing stands a third "
        "more; 0 unless the prompt is known and has no number.",
    ),
    _spec(
        "counted_words", 0, math.inf, "sentences", (), False,
        "Sentences or lines in a row that are the same but for a numeral in words (`the third`); 0 unless the prompt "
        "is known and has no number.",
    ),
    _spec(
        "nested_again", 0, math.inf, "levels", (), False,
        "Levels that lines are indented deeper and never back, all having stood there less deep, two and more on each; "
        "0 where the prompt speaks of nesting.",
    ),
)  # fmt: skip

#: Every signal by its name.
CATALOGUE: Mapping[str, SignalSpec] = MappingProxyType({spec.name: spec for spec in _ALL})


def markdown_table(catalogue: Mapping[str, SignalSpec] = CATALOGUE) -> str:
    """The catalogue as a Markdown table, as it stands in policies/README.md."""
    lines = [
        "| signal | range | unit | window in | needs | measures |",
        "|---|---|---|---|---|---|",
    ]
    for spec in catalogue.values():
        high = "" if math.isinf(spec.high) else f"{spec.high:g}"
        windows = ", ".join(spec.window_units) or "takes none"
        needs = "acceptance" if spec.needs_acceptance else "log-probabilities" if spec.needs_logprobs else ""
        lines.append(f"| `{spec.name}` | {spec.low:g} to {high} | {spec.unit} | {windows} | {needs} | {spec.help} |")
    return "\n".join(line.replace("to  |", "up |") for line in lines)
