"""Whatever the text and however it is cut, the detectors do not raise, forget nothing and agree."""

from __future__ import annotations

import math
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.detect.bank import DetectorBank
from guard.types import Channel, Sample, SignalRef, StepAcceptance, Unit, Window

REFS = (
    SignalRef("garble", Window(64, Unit.CHARACTERS)),
    SignalRef("word_recurrence", Window(64, Unit.CHARACTERS)),
    SignalRef("rare_characters", Window(64, Unit.CHARACTERS)),
    SignalRef("script_salad", Window(64, Unit.CHARACTERS)),
    SignalRef("repetition_count"),
    SignalRef("repetition_characters"),
    SignalRef("repetition_letters"),
    SignalRef("blank_lines"),
    SignalRef("counting"),
    SignalRef("cycle_words"),
    *(
        SignalRef(name, Window(64, Unit.CHARACTERS))
        for name in (
            "odd_characters", "glued_scripts", "symbol_salad", "recurrence_fall", "familiar_words", "fresh_words",
            "stutter", "word_clash",
        )
    ),
)  # fmt: skip
ALL = (
    *REFS,
    SignalRef("repetition_tokens"),
    SignalRef("acceptance_fall", Window(16, Unit.TOKENS)),
    SignalRef("acceptance_evidence"),
    SignalRef("topic_break"),
    SignalRef("sentence_break"),
    SignalRef("new_words"),
)
RESTS = (
    *(SignalRef(name, Window(128, Unit.CHARACTERS)) for name in ("rare_characters", "odd_characters", "script_salad")),
    *(SignalRef(name, Window(256, Unit.CHARACTERS)) for name in ("glued_scripts", "odd_kinds", "stray_scripts")),
)
ANY_TEXT = st.text(st.characters(min_codepoint=0, max_codepoint=sys.maxunicode, exclude_categories=()))
LOOPY = st.builds(lambda a, b, n: a + b * n, ANY_TEXT, ANY_TEXT, st.integers(0, 60))
STEP = st.builds(StepAcceptance, st.integers(-1, 9), st.integers(-1, 9), st.integers(0, 10), exact=st.booleans())


def sample(text: str, tokens: int = 1, steps: tuple[StepAcceptance, ...] = ()) -> Sample:
    return Sample(choice=0, texts=((Channel.CONTENT, text),), tokens=tokens, steps=steps)


def same(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right))


@given(st.lists(st.tuples(LOOPY, st.integers(0, 5), st.lists(STEP, max_size=3)), max_size=20))
def test_never_raises_and_is_deterministic(chunks: list[tuple[str, int, list[StepAcceptance]]]) -> None:
    first, second = DetectorBank(ALL), DetectorBank(ALL)
    for text, tokens, steps in chunks:
        for bank in (first, second):
            bank.observe(sample(text, tokens, tuple(steps)))
        for ref in ALL:
            assert same(first.read(ref), second.read(ref))
            assert first.finding(ref).reason == second.finding(ref).reason


@given(st.lists(st.tuples(LOOPY, st.integers(0, 5), st.lists(STEP, max_size=3)), max_size=20), ANY_TEXT)
def test_no_reading_changes_while_the_version_does_not(
    chunks: list[tuple[str, int, list[StepAcceptance]]], prompt: str
) -> None:
    bank = DetectorBank(ALL, None, prompt)
    before: tuple[int, list[float]] | None = None
    for text, tokens, steps in chunks:
        bank.observe(sample(text, tokens, tuple(steps)))
        now = (bank.version, [bank.read(ref) for ref in ALL])
        if before is not None and before[0] == now[0]:
            assert all(map(same, before[1], now[1]))
        before = now


@given(LOOPY, st.lists(st.integers(0, 4000), max_size=20))
def test_readings_of_text_do_not_depend_on_how_it_is_cut(text: str, cuts: list[int]) -> None:
    whole, pieces = DetectorBank(REFS), DetectorBank(REFS)
    whole.observe(sample(text))
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, end in pairwise(borders):
        pieces.observe(sample(text[start:end]))
        for ref in REFS:
            pieces.read(ref)
    for ref in REFS:
        assert same(whole.read(ref), pieces.read(ref))


@settings(max_examples=20)
@given(st.integers(1, 300), st.integers(0, 400))
def test_the_period_agrees_with_the_definition(period: int, lead: int) -> None:
    passage = "".join(chr(0x100 + n) for n in range(period))
    bank = DetectorBank((SignalRef("repetition_characters"),))
    text = "".join(chr(0x2000 + n) for n in range(lead)) + passage * (3 + 600 // period)
    bank.observe(sample(text))
    covered = bank.read(SignalRef("repetition_characters"))
    # All of it, but for a block that is not complete yet.
    assert len(text) - lead - 16 < covered <= len(text) - lead


PIECES = st.sampled_from(["plain words of a text, ", "\ufffd", "жук", " Füße ", "\U0001d400", "字", "x" * 64, "ж字ж"])


@given(st.lists(PIECES, max_size=12))
def test_readings_that_rest_are_what_the_windows_hold(pieces: list[str]) -> None:
    """What is read after every page is what a bank says that is read for the first time."""
    bank, text = DetectorBank(RESTS), ""
    for piece in pieces:
        text += piece
        bank.observe(sample(piece))
        fresh = DetectorBank(RESTS)
        fresh.observe(sample(text))
        assert [bank.read(ref) for ref in RESTS] == pytest.approx([fresh.read(ref) for ref in RESTS], nan_ok=True)


def test_memory_is_bounded() -> None:
    bank = DetectorBank(ALL)
    sizes = []
    for index in range(30_000):
        bank.observe(sample(chr(0x4E00 + index * 7919 % 20000) + chr(97 + index % 26), 1))
        if index in (9_999, 29_999):
            sizes.append(_size(bank))
    assert sizes[1] <= sizes[0] * 1.05
    assert sizes[1] < 48 * 1024


def _size(value: object, seen: set[int] | None = None) -> int:
    """Bytes of an object and all it holds."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, type):
        return 0
    seen.add(id(value))
    parts: list[object] = []
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, str | bytes | int | float):
        parts = []
    elif hasattr(value, "__iter__"):
        parts = list(value)
    if hasattr(value, "__dict__"):
        parts.extend(vars(value).values())
    for slot in getattr(type(value), "__slots__", ()):
        parts.append(getattr(value, slot, None))
    return sys.getsizeof(value) + sum(_size(part, seen) for part in parts)
