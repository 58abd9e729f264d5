"""Characters as classes."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from guard.detect.shape import ascii_shape, code_of


def test_ascii_by_class() -> None:
    assert ascii_shape('aZ9 .}"(-\x00\n') == b"aA0 cbqonR "


def test_other_characters() -> None:
    text = "é漢α\ufffd…\u201c\ue000"
    assert bytes(map(code_of, text)) == b"lXlRsos"


@given(st.text(st.characters(max_codepoint=127)))
def test_both_ways_agree_on_ascii(text: str) -> None:
    assert ascii_shape(text) == bytes(map(code_of, text))


def test_every_character_has_a_class() -> None:
    assert all(0 <= code_of(chr(code)) < 128 for code in range(0, sys.maxunicode, 97))
