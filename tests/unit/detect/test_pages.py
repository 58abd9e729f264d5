"""The loops of C say of every page what those of Python say."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guard.detect import familiar as familiar_module
from guard.detect import glance as glance_module
from guard.detect import pages
from guard.detect import words as words_module
from guard.detect.familiar import FamiliarScan
from guard.detect.glance import REACH, glance, joints_in, kinds_in
from guard.detect.grammar import CLASHES, PARTS
from guard.detect.rare import learn, sight_of
from guard.detect.scripts import classify
from guard.detect.shape import code_of
from guard.detect.words import WordScan, WordWindow
from tests.in_c import in_dev_mode, library

C = library("guard.detect._pages")
PIECES = [
    "the",
    "The",
    "cat ",
    " sat",
    "on",
    "on ",
    "\n",
    " ",
    "\t",
    "\x1c",
    "\x85",
    "_",
    "a1",
    "42",
    "43",
    "...",
    "!?",
]
PIECES += [",", "x" * 60, "\x00", "\x7f", "é", "É", "ß", "İ", "日本", "٣", "\u2028", "\u3000", "ſ", "K", "ΑΣ", "ǅ", "²"]
PIECES += ["\u0301", "\u200b", "\ud800", "🦊", "𝒳", "Ⅷ", "ª", "ˣ"]
PAGES = st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=20).map("".join), min_size=1, max_size=12)


def test_they_are_used_where_they_are_compiled_and_nowhere_else() -> None:
    built = importlib.util.find_spec("guard.detect._pages") is not None
    found = (pages.SCAN, pages.SAY, pages.JOINTS, pages.GLANCE, pages.RECUR, pages.CLASH)
    assert [one is not None for one in found] == [built] * 6


def read(said: list[str], scan: Any, say: Any) -> list[Any]:
    """All that is known after each page, with the one or the other."""
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(words_module, "SCAN", scan)
        patched.setattr(familiar_module, "SAY", say)
        words, familiar = WordScan(), FamiliarScan()
        for page in said:
            words.feed(page)
            familiar.feed(words.tokens, len(page))
            state = [copy.copy(getattr(familiar, name)) for name in FamiliarScan.__slots__ if name != "_table"]
            found.append([dict(vars(words)), state, bytes(familiar._table)])
    return found


@given(PAGES)
def test_both_say_the_same_of_any_pages(said: list[str]) -> None:
    assert read(said, C.scan, C.say) == read(said, None, None)


@given(st.lists(st.text(min_size=1, max_size=64), min_size=1, max_size=4))
@example(["\u0130"])
@example(["a\u0130", "\u0130\u0130 \u0130"])
def test_both_say_the_same_of_any_script(said: list[str]) -> None:
    assert read(said, C.scan, C.say) == read(said, None, None)


def test_every_character_of_the_first_plane_is_of_the_same_kind_to_both() -> None:
    for first in range(128, 0x10000, 64):
        row = [chr(code) for code in range(first, first + 64)]
        said = ["a".join(row), " ".join(row), "".join(row), *row]
        assert read(said, C.scan, None) == read(said, None, None), hex(first)


@given(st.lists(st.text(st.characters(max_codepoint=160), min_size=1, max_size=64), min_size=1, max_size=4))
def test_both_say_the_same_of_any_characters(said: list[str]) -> None:
    assert read(said, C.scan, C.say) == read(said, None, None)


def test_every_character_of_ascii_is_of_the_same_kind_to_both() -> None:
    for code in range(128):
        for page in (chr(code), f"a{chr(code)}b", f".{chr(code)}.", f"{chr(code)}A A {chr(code)}{chr(code)}"):
            assert read([page], C.scan, None) == read([page], None, None), page


def test_words_of_many_pages_are_counted_as_often() -> None:
    said = [f"word{number % 7} and {number % 30} more words of it, {'x' * (number % 9)} end" for number in range(900)]
    assert read(said, C.scan, C.say) == read(said, None, None)


#: Classes of guard.detect.shape, single and in the rows that joints are made of; a few bytes that are none.
CLASSES = [*"aA0 cbqonszRXl", "a" * 15, "a" * 17, "X" * 31, "X" * 33, "aooa", "AAaa", "a c a", "acaca", "\x00", "\xff"]
SHAPES = st.lists(st.sampled_from(CLASSES), max_size=60).map(lambda parts: "".join(parts).encode("latin-1"))


@given(SHAPES)
def test_both_count_the_same_joints(shape: bytes) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(glance_module, "JOINTS", None)
        patched.setattr(glance_module, "KINDS", None)
        assert C.joints(shape) == joints_in(shape)
        assert C.kinds(shape) == kinds_in(shape)


@given(SHAPES, SHAPES)
def test_both_count_the_same_at_a_glance(before: bytes, shape: bytes) -> None:
    tail, shape = before[-REACH:], shape[:512]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(glance_module, "GLANCE", None)
        patched.setattr(glance_module, "JOINTS", None)
        assert C.glance(tail, shape) == glance(tail, shape)


def test_every_class_counts_the_same_at_a_glance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance_module, "GLANCE", None)
    monkeypatch.setattr(glance_module, "JOINTS", None)
    for shape in [bytes([code]) for code in range(256)]:
        assert C.glance(b"a", shape) == glance(b"a", shape), shape


@pytest.mark.parametrize(
    "how", [(), (b"a",), (b"a", "a"), ("a", b"a"), (b"a" * 20, b""), (b"", b"a" * 513), (None, b"")]
)
def test_glance_takes_nothing_else(how: tuple[Any, ...]) -> None:
    C.glance(b"a" * 19, b"a" * 512)
    with pytest.raises(TypeError):
        C.glance(*how)


def test_every_joint_of_up_to_four_classes_is_the_same_to_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance_module, "JOINTS", None)
    monkeypatch.setattr(glance_module, "KINDS", None)
    for size in range(5):
        for shape in map(bytes, itertools.product(b"aA0 cqoXzR", repeat=size)):
            assert C.joints(shape) == joints_in(shape), shape
            assert C.kinds(shape) == kinds_in(shape), shape


@given(st.text(max_size=80))
def test_both_see_the_same(page: str) -> None:
    for _ in range(2):
        assert C.see(page, learn) == (bytes(map(code_of, page)), bytes(map(sight_of, page)))


def test_every_character_is_seen_and_asked_for_once() -> None:
    asked: list[str] = []

    def ask(character: str) -> int:
        asked.append(character)
        return learn(character)

    seen = library("guard.detect._pages").see
    for start in (0, 0xD700, 0x1F300, 0x2FFF0, 0xE0000, sys.maxunicode - 99):
        page = "".join(map(chr, range(start, start + 100)))
        assert seen(page, ask) == seen(page, ask) == (bytes(map(code_of, page)), bytes(map(sight_of, page)))
    # What is kept is kept for all; what is beyond the planes in use is asked for each time.
    assert len(asked) <= 6 * 100 + 2 * 100 + 84


@pytest.mark.parametrize("how", [(), ("a",), (b"a", learn), ("a", learn, 1)])
def test_see_takes_nothing_else(how: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        C.see(*how)


@pytest.mark.parametrize("told", [0, -1, 1 << 16, 256, 1 << 70, "a", None])
def test_what_is_no_sight_is_refused(told: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        C.see("\U0010fffd", lambda _: told)


def test_a_byte_holds_all_sights() -> None:
    sights = {(classify(chr(code)), sight_of(chr(code))) for code in range(sys.maxunicode + 1)}
    assert len({sight for _, sight in sights}) > 150
    assert len({(found.script, found.rare, found.odd) for found, _ in sights}) == len({sight for _, sight in sights})


WORDS = [*"of the a which is was to their I", "cat", "Été", "日本", "x1", "_", "\n", "...", "", "ß", "٣", "of the"]
TOKENS = st.lists(st.lists(st.sampled_from([*WORDS, *PARTS]), max_size=40), max_size=6)


def read_window(pages_of: list[list[str]], recur: Any, clash: Any) -> list[Any]:
    """Readings of a window after each page, with the one or the other."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(words_module, "RECUR", recur)
        patched.setattr(words_module, "CLASH", clash)
        window, found = WordWindow(4), list[Any]()
        for tokens in pages_of:
            window.add(tokens)
            found.append((repr(window.value()), window.clash(), repr(window.fall())))
        return found


@given(TOKENS)
def test_both_say_the_same_of_the_words_of_any_window(pages_of: list[list[str]]) -> None:
    assert read_window(pages_of, C.recur, C.clash) == read_window(pages_of, None, None)


def test_both_words_of_a_clash_are_function_words() -> None:
    assert {word for pair in CLASHES for word in pair} <= PARTS.keys()


@pytest.mark.parametrize("how", [None, "aA", bytearray(b"aA"), ["aA"]])
def test_joints_take_nothing_else(how: object) -> None:
    for count in (C.joints, C.kinds):
        with pytest.raises(TypeError):
            count(how)


@pytest.mark.parametrize("how", [None, (), [()], [["a"], None], [["a", b"b"]], [[["a"]]], "ab"])
def test_recur_and_clash_take_nothing_else_than_pages(how: object) -> None:
    with pytest.raises(TypeError):
        C.recur(how)
    with pytest.raises(TypeError):
        C.clash(how, PARTS, CLASHES)


@pytest.mark.parametrize("how", [(), ([],), ([], PARTS), ([], None, CLASHES), ([], PARTS, set(CLASHES)), ([], 1, 2)])
def test_clash_takes_nothing_else(how: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        C.clash(*how)


#: Of the last two words, number, run, words said, those of the clause, familiar ones, its size and hash.
ZEROS = (0,) * 9


@pytest.mark.parametrize(
    "change",
    [
        {0: bytes(8192)},
        {0: bytearray(8191)},
        {1: ("a",)},
        {1: [[]]},
        {1: ["a", b"b"]},
        {1: ["a", ""]},
        {2: -1},
        {3: 8192},
        {3: "0"},
        {4: 1 << 40},
        {5: -2},
        {6: None},
        {8: 1 << 70},
        {9: 1 << 31},
        {10: 1 << 32},
        {10: -2},
    ],
)
def test_say_takes_nothing_else(change: dict[int, Any]) -> None:
    how: list[Any] = [bytearray(8192), ["a"], *ZEROS]
    C.say(*how)
    for count in (0, 10):
        with pytest.raises(TypeError):
            C.say(*how[:count])
    for place, what in {0: bytearray(8192), **change}.items():
        how[place] = what
    with pytest.raises((TypeError, ValueError, OverflowError)):
        C.say(*how)


def test_a_word_that_is_no_text_ends_the_page_with_an_error() -> None:
    with pytest.raises(UnicodeEncodeError):
        C.say(bytearray(8192), ["a\ud800"], *ZEROS)


@pytest.mark.parametrize("how", [(), ("a",), (b"a", "b"), ("a", b"b"), ("a", "b", "c"), (None, None)])
def test_scan_takes_nothing_else(how: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        C.scan(*how)


def test_a_word_met_before_is_the_same_object_and_none_is_taken_for_another() -> None:
    said = [f"word{number}" for number in range(9000)] + ["x" * size for size in range(1, 40)]
    for _ in range(2):
        for word in said:
            tokens, _, last, _ = C.scan(f"{word.upper()} {word} ", "")
            assert tokens == [word, word]
            assert last == word
            assert (tokens[0] is tokens[1]) == (len(word) <= 16)
    kept = C.scan("harbour ", "")[0]
    C.forget()
    assert C.scan("harbour ", "")[0] == kept
    assert C.scan("harbour ", "")[0][0] is not kept[0]


def test_nothing_stays() -> None:
    word, spoken, table = "once upon", ["once", "upon", "once"], bytearray(8192)
    mixed = ["a1", "two", "2", "3", ".", "_", "end"]
    shape, clashing = b"aA a0 aca", [["the", "of", "cat"], ["a", "the"]]
    page = "éa \U0010fffd"
    held = (
        page,
        word,
        spoken,
        table,
        mixed,
        mixed[0],
        mixed[1],
        spoken[0],
        shape,
        clashing,
        clashing[0],
        PARTS,
        CLASHES,
    )
    before = [sys.getrefcount(one) for one in held]
    for _ in range(200):
        C.scan(f"{word} a time, time", word)
        C.scan("x", word)
        C.say(table, spoken, *ZEROS)
        C.say(table, mixed, *ZEROS)
        C.say(table, ["é", "é1"], *ZEROS)
        C.scan(word, "é")
        C.scan("éa é é b", "é")
        C.joints(shape)
        C.kinds(shape)
        C.see(page, learn)
        C.glance(shape, shape)
        C.recur(clashing)
        C.clash(clashing, PARTS, CLASHES)
    assert [sys.getrefcount(one) for one in held] == before


def test_all_of_this_holds_where_python_checks_its_memory() -> None:
    in_dev_mode(__file__, "both or nothing or met or ascii or glance or seen or sight")
