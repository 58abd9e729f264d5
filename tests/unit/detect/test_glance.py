"""What is counted in the classes of a page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.detect.glance import REACH, glance, joints_in, kinds_in
from guard.detect.prompt import Prompt
from guard.detect.rare import CharacterScan
from guard.detect.shape import NOT_LETTERS, NOT_MARKS

SHAPES = st.lists(st.sampled_from("aA0 cbqonszRXl"), max_size=64).map(lambda classes: "".join(classes).encode())


@pytest.mark.parametrize("plain", ["and then, later, ", "The end.\nIt was ", "well-known things", "a (b) c [d] e"])
def test_plain_text_has_no_joints(plain: str) -> None:
    assert joints_in(shape_of(plain)) == 0


@pytest.mark.parametrize(
    "broken",
    ["end.Start of it", "some , thing", "cameL case", "a1 b2", "x=(y)", "HTMLed", "a\ufffdb", "漢字as", "x" * 16],
)
def test_each_kind_of_joint_is_seen(broken: str) -> None:
    assert joints_in(shape_of(broken)) > 0


def test_a_page_of_one_script_without_a_mark_is_broken() -> None:
    assert joints_in(shape_of("山" * 32)) == 2
    assert joints_in(shape_of("山" * 15 + "。" + "山" * 16)) == 0


@given(SHAPES, SHAPES)
def test_counts_are_those_of_the_page_and_rows_begin_in_the_one_before(before: bytes, shape: bytes) -> None:
    tail = before[-REACH:]
    marks, letters, longest, joints, rare = glance(tail, shape)
    assert marks == sum(code not in NOT_MARKS for code in shape)
    assert letters == sum(code not in NOT_LETTERS for code in shape)
    assert rare == shape.count(b"R")
    assert longest == max(map(len, bytes(c if c == ord("a") else 32 for c in tail + shape).split()), default=0)
    assert joints == joints_in(tail[-2:] + shape)


def test_a_row_of_letters_goes_on_over_the_border() -> None:
    assert glance(b"a" * REACH, b"a b")[2] == REACH + 1
    assert glance(b"", b"")[2] == 0


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("plain words, and more.", 0),
        ("cameL", 1),
        ("cameL camEL", 1),
        ("cameL x4", 2),
        ('cameL x4 a"b a.b , c HTMLed', 6),
    ],
)
def test_joints_of_one_kind_are_one(text: str, kinds: int) -> None:
    assert kinds_in(shape_of(text)) == kinds


def shape_of(text: str) -> bytes:
    scan = CharacterScan(Prompt())
    scan.feed(text)
    return scan.shape
