"""Text that says again what it said, though not letter by letter."""

from __future__ import annotations

import random

import pytest

from guard.detect.familiar import MOST_SIZE, FamiliarScan, FamiliarWindow
from guard.detect.words import WordScan

PAGE = 32
NAMES = ["lamp", "harbour", "kettle", "anvil", "meadow", "ferry", "orchard", "pebble"]
NAMES += ["saddle", "lantern", "cellar", "bramble", "chimney", "quarry"]


def scan(text: str, pages: int = 7) -> tuple[FamiliarScan, FamiliarWindow]:
    words, found, window = WordScan(), FamiliarScan(), FamiliarWindow(pages, PAGE)
    for start in range(0, len(text) - len(text) % PAGE, PAGE):
        words.feed(text[start : start + PAGE])
        found.feed(words.tokens, sum(map(str.isalpha, text[start : start + PAGE])))
        window.add(found)
    return found, window


def numbered(count: int) -> str:
    return "".join(f"{n}. Look behind the old chimney once more, and then sit down.\n" for n in range(1, count))


def test_a_counter_does_not_make_a_sentence_new() -> None:
    _, window = scan(numbered(12))
    assert window.familiar_share() > 0.9
    assert window.fresh_share() < 0.05


def test_one_word_changed_does_not_make_a_sentence_new() -> None:
    dice = random.Random(5)
    text = "".join(
        f"We should ask about the {dice.choice(NAMES[:6])} too, since it all depends on it. " for _ in range(20)
    )
    _, window = scan(text)
    assert window.familiar_share() > 0.8
    assert window.fresh_share() == 0.0


def test_clauses_in_any_order_are_not_new() -> None:
    dice = random.Random(5)
    said = ["Let me look.", "I start now.", "First, the gate.", "Here it comes.", "On with it."]
    _, window = scan(" ".join(dice.choice(said) for _ in range(80)))
    assert window.familiar_share() > 0.8


def test_prose_is_new() -> None:
    dice = random.Random(5)
    text = " ".join(
        f"The {dice.choice(NAMES)} was brought to the {dice.choice(NAMES)} when {dice.choice(NAMES)}s were rare in {n}."
        if n % 3
        else f"Nobody asked {dice.choice(NAMES)} where it came from or who had the {dice.choice(NAMES)}."
        for n in range(20)
    )
    assert scan(text)[1].familiar_share() < 0.75


def test_records_bring_something_new_in_each_row() -> None:
    dice = random.Random(5)
    text = "".join(
        f"insert into parts values ({n}, '{dice.choice(NAMES)}', {dice.randint(1, 500)});\n" for n in range(40)
    )
    assert scan(text)[1].fresh_share() > 0.05


def test_tables_of_figures_have_too_few_letters() -> None:
    assert scan("| 0 | ok | 1 | - | 0 | 1 |\n" * 20)[1].familiar_share() == 0.0


def test_numbers_that_count_up_are_a_run() -> None:
    found, _ = scan("so on: " + " ".join(map(str, range(5, 60))))
    assert found.run > 30
    assert scan("3 5 9 1 4 8 " * 20)[0].run <= 1


def test_memory_is_fixed() -> None:
    words, found = WordScan(), FamiliarScan()
    for index in range(4000):
        words.feed(f"{chr(97 + index % 26)}{chr(97 + index // 26 % 26)} word and{'x' * 20}"[:PAGE])
        found.feed(words.tokens, 24)
    assert len(found._table) == 8192
    kept = {name: getattr(found, name) for name in FamiliarScan.__slots__ if name not in ("_table", "cycle")}
    assert all(type(value) is int and value < 1 << 32 for value in kept.values())


def test_a_page_is_not_longer_than_its_sums_have_room_for() -> None:
    with pytest.raises(ValueError, match="129"):
        FamiliarWindow(3, 129)
    window, page = FamiliarWindow(2, MOST_SIZE), FamiliarScan()
    window.add(page)
    page.words = page.letters = page.familiar = page.fresh = 255
    for _ in range(40):
        window.add(page)
        assert {window.words, window.letters, window.familiar, window.fresh} <= {255, 510}


def test_new_words_are_counted_over_a_whole_round_where_it_is_longer() -> None:
    said = "Sit down on the bench by the old gate, wait until the bell rings, and walk round the pond once more. "
    _, window = scan("".join(f"{name.title()} begins. {said * 2}" for name in NAMES[:5]), pages=4)
    assert window.fresh_share() == 0.0
    assert window.fresh_share(2 * len(said) + PAGE) > 0.0
    assert window.fresh_share(10**6) >= window.fresh_share(2 * len(said) + PAGE)
    assert window.fresh_share(3) == window.fresh_share()


def test_a_word_is_new_whatever_phrases_were_said_before() -> None:
    stock = [f"{first}{second}{third}" for first in NAMES for second in NAMES[:6] for third in ("a", "o", "u", "i")]
    dice, found, new = random.Random(7), FamiliarScan(), 0
    dice.shuffle(stock)
    for _ in range(60):
        found.feed(dice.sample(stock[:60], 10), 60)
    # Sixty words in six hundred phrases: hardly one of two hundred words shares its place with another word.
    for word in stock[60:260]:
        found.feed([word], 8)
        new += found.fresh
    assert new >= 194
