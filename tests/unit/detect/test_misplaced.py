"""Marks, blanks and signs where no language has them."""

from __future__ import annotations

import pytest

from guard.detect.misplaced import gap, misplaced, stray_signs, without_addresses


@pytest.mark.parametrize(
    "text",
    [
        "the way- aired by all of them",
        "left-, and so on",
        "a house,-built of stone",
        "It ends in the. And then",
        "red or green or. A few more",
        "the end of, it seems",
        "some last more  day by day",
        "one\n\n \n\ntwo",
        "half \u00bf of it \u00ac here",
        "no\u00a0way \ufffd out",
    ],
)
def test_each_kind_is_seen(text: str) -> None:
    assert misplaced(text)[0] == 1


@pytest.mark.parametrize(
    "text",
    [
        "Two- and threefold, pre- or post-war: a well-known, old-time thing (low-lying).",
        "Vor- und Nachteile, in- en uitvoer.",
        "f(-x) = -f(x), g(-t) = g(t)",
        "p{display:-webkit-box}",
        "Turn it on. What is it made of? Look at that, and this; not only, but also.",
        "name    value    unit\nrope    14       m",
        "def first():\n    pass\n\n\ndef second():\n    pass\n",
        "Caf\u00e9 \u2013 \u201cna\u00efve\u201d, 5 \u00d7 3 \u00b0C, \u00a320 or \u20ac25\u2026",
        "\u00bfQu\u00e9 hora es? \u00a1Ya es tarde!",
        "\u2705 done \U0001f680 fast \u26a1 light \U0001f469\u200d\U0001f680 crew",
        "\u2200x \u2208 A: x \u2264 y \u2192 y \u2265 x",
        "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u3002",
        "\u0939\u0948 \u0915\u0940 \u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902",
    ],
    ids=[
        *("hyphens", "other languages", "functions", "styles", "ends", "columns", "code", "typography"),
        *("Spanish", "emoji", "logic", "Chinese", "Hindi"),
    ],
)  # fmt: skip
def test_healthy_text_has_none(text: str) -> None:
    assert misplaced(text) == (0, 0)


def test_signs_of_ever_new_sorts_count_twice() -> None:
    assert stray_signs("one \u00bf of them, \u00bf and again") == 0
    assert stray_signs("no\u00a0way, no\u202fother way") == 0, "one sort of blank is as good as another"
    assert misplaced("a \u00bf b \u00ac c") == (1, 2)
    assert misplaced("a \u00bf b \u00ac c \u00a4 d \u2020 e") == (2, 4)


def test_all_there_are_count() -> None:
    assert misplaced("the way- aired, left-, and of, the  rest of it in the.") == (3, 5)


def test_three_empty_lines_are_a_gap() -> None:
    assert gap("one\n\n\n\ntwo")
    assert gap("one\n \n\t\n\ntwo")
    assert not gap("one\n\n\ntwo")
    assert not gap("one\n\ntwo\n\nthree\n\nfour")


def test_addresses_go_and_nothing_else() -> None:
    text = "See <https://example.org/a-b_c?d=e#F>, or mail <jo.lee@example.org>; it's @home, a@b and c@d@e.f"
    assert without_addresses(text) == "See a or mail a it's @home, a@b and c@d@e.f"
    assert without_addresses("x@y.Z") == "a"
    assert without_addresses("plain words") == "plain words"
