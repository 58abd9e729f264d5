"""Classes of characters."""

from __future__ import annotations

import pytest

from guard.detect.scripts import classify


@pytest.mark.parametrize("character", ["\ufffd", "\ue000", "\u0378", "\x00", "\x1b", "\uffff", "\U00020000"])
def test_rare(character: str) -> None:
    assert classify(character).rare


def test_lone_surrogates_are_rare() -> None:
    assert classify(chr(0xD800)).rare
    assert classify(chr(0xDFFF)).rare


@pytest.mark.parametrize("character", ["\n", "\t", "\r", "a", "é", "ж", "漢", "α", "😀", "∀", "\u200d", " "])
def test_not_rare(character: str) -> None:
    assert not classify(character).rare


def test_scripts_written_together_are_one() -> None:
    assert {classify(c).script for c in "漢ひカ"} == {"HAN"}
    assert classify("한").script == "HANGUL"
    assert classify("ж").script == "CYRILLIC"
    assert classify("7").script == ""


@pytest.mark.parametrize("character", ["\U0001d400", "\U0001d7d8", "\u2776", "\u27b4"])
def test_odd(character: str) -> None:
    assert classify(character).odd
    assert not classify(character).rare


@pytest.mark.parametrize("character", ["\u2728", "\u2705", "\u2714", "\u27a1", "a", "∑", "😀"])
def test_not_odd(character: str) -> None:
    assert not classify(character).odd
