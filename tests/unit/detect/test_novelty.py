"""New words where the draft fails, and text that has a form of its own."""

from __future__ import annotations

import math

import pytest

from guard.detect.novelty import LEAST, MOST, NewWords, formed

SEA = (
    "The ferry crosses the sound twice each morning, and the pilot of the ferry knows every rock in the sound. "
    "Passengers wait on the quay until the pilot waves; the quay is old, and the rocks below the quay are older. "
)
SALAD = (
    "lantern marbleof quarter harnessdry fellow weekendcarrots, mapping cubic towerbaker fence loudApril nearest "
    "gloves copper islandmouth pencilseldom wide sleeping ticketplum northern forged melon collarbright saddle "
    "winterspoken ladder gravel thumbSalt apron clever museumhay borrowed pigeonsvelvet mustard anvilharp"
)
#: As a cache says it that was spoiled before the first token.
TORN = """hoist) theambear tabestibul theancip-tionsethod the. The- and-minus Vocast rul-
\u2022ascalnowSell serc myself

_-est_fetchall MajlicIndiger altaudAd or, All ofeither-estrows over)
 next\u2022 instead RGrin-
 Riveraurus

 iron the. th Expiller-ors-
  as Wir-inctMeet the Washing
"""
#: Pieces of words in every way they can meet.
NOISE = (
    "harborous.nd thelVil re#port aRing weep , thou cup4the milkening:gate olderLy of nestering3rd,pine bra*tide "
    'copperish.Moor te"ntable soften of wharfLeme 7kin (ropes)ailing lan , terned'
)
GETTERS = """
    def nextRow(self):
        self.rowNo = self.nextNo
    def nextPage(self):
        self.pageNo = self.firstNo
    def lastPage(self):
        self.pageNo = self.finalNo
"""
CODE = """
static size_t put(ring_t *ring, const void *source, size_t count) {
    size_t room = sizeof ring->bytes - (ring->head - ring->tail);
    if (count > room) count = room;
    memcpy(ring->bytes + (ring->head & MASK), source, count);
    return count;
}
"""


def look(before: str, after: str) -> NewWords:
    found, text = NewWords(), before + after
    found.look(40, len(after), text.encode())
    return found


def read(before: str, after: str) -> float:
    return look(before, after).new


def test_words_that_never_stood_before_are_new() -> None:
    assert read(SEA, SALAD) > 0.8


def test_words_that_come_back_are_not() -> None:
    assert read(SEA, SEA) == 0.0
    assert read(SEA, SALAD[:140] + SEA[:100]) < read(SEA, SALAD[:240])


def test_what_was_said_before_the_fall_says_nothing() -> None:
    assert read(SALAD + " ", SEA) == read("", SEA) < read(SEA, SALAD)


def test_numbers_and_marks_make_words_fewer_of_all() -> None:
    marked = "".join(f"{word}:{place}; " for place, word in enumerate(SALAD.split()))
    assert read(SEA, marked[:MOST]) < 0.5 * read(SEA, SALAD[:MOST])


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        GETTERS.replace("(self)", ""),
        "| Io | 1821.6 | 8.93 | 0.0041 |\n| Europa | 1560.8 | 4.79 | 0.0094 |\n",
        "rope gone grey on the iron rings\ntide under planks\nsomeone has painted a seven\n",
        "1.e4 e5 2.Nf3 Nc6 3.Bc4 Bc5 4.b4 Bxb4 5.c3 Ba5 6.d4 exd4",
        "select(name) from(ledgers) where(total) order(date) limit(ten) of all that there are in them",
        "as is told here: ```go package limit and import of all that is wanted to hold the time of a bucket ",
        "Anna,Meyer,Bonn,teacher,married,German,Catholic,left Bonn for good and came back in the end ",
        "at org.tide.pilot.Harbour.open at org.tide.pilot.Quay.moor at org.tide.pilot.Rope.tie and the rest ",
    ],
    ids=[
        "code",
        "broken words in lines that begin alike",
        "table",
        "verse",
        "moves",
        "brackets",
        "fence",
        "values",
        "names",
    ],
)
def test_what_has_a_form_is_known_by_it(text: str) -> None:
    assert formed(text)
    assert read(SEA, (text * 8)[:176]) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        SEA,
        SALAD,
        TORN,
        SALAD.replace(" ", " " * 80, 4),
        SALAD.replace(" ", "() ", 8),
        "the (first] of [three) and {more] words that are only ever broken",
        "well-known, half-open, long-lost, far-off, old-time, low-lying and next-door things of a well-kept house",
    ],
    ids=["prose", "salad", "salad in short lines", "salad and blanks", "empty pairs", "other brackets", "hyphens"],
)
def test_what_has_none_is_running_text(text: str) -> None:
    assert not formed(text)


def test_salad_in_short_lines_is_told_from_whole_words_in_them() -> None:
    assert read(SEA, TORN[:MOST]) > 0.5
    assert read(SEA, "\n".join(SALAD.lower().split())[:MOST]) == 0.0


def test_too_little_is_unknown_and_so_are_a_few_long_runs() -> None:
    assert math.isnan(read(SEA, SEA[: LEAST - 1]))
    assert not math.isnan(read(SEA, SEA[:LEAST]))
    assert math.isnan(read(SEA, "掛け軸と一輪の花が飾られます" * 16))


def test_of_a_fall_that_is_long_past_the_latest_is_looked_at() -> None:
    novelty = NewWords()
    for back in (-1, 4000):
        novelty.look(40, back, (SEA * 4 + SALAD).encode())
        assert novelty.new > 0.8
    assert "never stood before" in novelty.why("new_words")
    assert "joints a word" in novelty.why("broken_words")
    assert "ways" in novelty.why("joint_kinds")


def test_a_word_that_was_cut_by_the_fall_counts_as_before_it() -> None:
    text = SEA + "lighthouse " + SALAD
    found = NewWords()
    found.look(7, len(SALAD) + len("house "), text.encode())
    assert found.new == read(SEA + "lighthouse", " " + SALAD)


def test_each_fall_is_looked_at_anew() -> None:
    novelty = NewWords()
    novelty.look(40, len(SALAD), (SEA + SALAD).encode())
    assert novelty.new > 0.8
    novelty.look(41, len(SEA), (SEA + SALAD + SEA).encode())
    assert novelty.new == 0.0


def test_words_of_a_spoiled_cache_are_broken_and_in_many_ways() -> None:
    found = look(SEA, NOISE)
    assert found.broken > 0.2
    assert found.kinds >= 5.0
    assert look(SEA, SALAD[:MOST]).kinds == 1.0, "a capital within a word, and no more"
    assert (look("", SEA).broken, look("", SEA).kinds) == (0.0, 0.0)


@pytest.mark.parametrize("text", [CODE, "| Io | 1821.6 | 8.93 | 0.0041 |\n" * 8])
def test_what_has_a_form_is_broken_in_no_way(text: str) -> None:
    found = look(SEA, text)
    assert (found.new, found.broken, found.kinds) == (0.0, 0.0, 0.0)


def test_too_little_is_broken_in_an_unknown_way() -> None:
    found = look(SEA, SEA[: LEAST - 1])
    assert math.isnan(found.broken)
    assert math.isnan(found.kinds)


def test_marks_and_signs_that_stand_where_they_never_do_count_as_broken() -> None:
    plain, torn = SALAD[:200], SALAD[:200].replace(" ", "- ", 2).replace(", ", " \u00bf\u00ac ")
    assert look(SEA, torn).kinds == look(SEA, plain).kinds + 2.0
    assert look(SEA, torn).broken > look(SEA, plain).broken + 0.05


def test_addresses_are_not_broken() -> None:
    mail = "Write to jo.lee@example.org or see https://example.org/harbourMaster/pilotBook?page=4b of the ferry there; "
    assert (look(SEA, mail * 2).kinds, look(SEA, mail * 2).broken) == (0.0, 0.0)
    assert look(SEA, mail * 2).new < 0.25, "nor are their parts words"


@pytest.mark.parametrize("spoiled", ["\n\n\n\n", " \u00bf\u00ac "], ids=["empty lines", "signs of no use"])
def test_lines_that_begin_alike_are_no_form_where_they_are_broken_in_every_way(spoiled: str) -> None:
    lines = "copper.Tide wharf\nloudApril cup4 the\nnestering- olderly\nropes of, mast\nthe pilot in the. More\n"
    assert formed(lines)
    assert not formed(lines + spoiled + lines)
    assert formed(CODE + spoiled + lines), "brackets that close are a form whatever else there is"
