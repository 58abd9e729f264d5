"""What the prompt allows."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.detect.prompt import Prompt


def test_a_passage_in_the_prompt_may_be_said_as_often_as_it_says() -> None:
    prompt = Prompt('Please write "I will shut the gate." thirty times.')
    assert prompt.asked_for("I will shut the gate.\n", 30)
    assert prompt.asked_for("shut the gate. I will ", 12)
    assert not prompt.asked_for("I will shut the gate.\n", 31)
    assert not prompt.asked_for("I will open the gate.\n", 12)


def test_without_a_prompt_nothing_was_asked_for() -> None:
    assert not Prompt().asked_for("again ", 2)
    assert not Prompt().known


@pytest.mark.parametrize(
    ("text", "framed", "refrain", "random", "counting"),
    [
        ("How does the tide work? Explain it to a child.", False, False, False, True),
        ("How does the tide work?", False, False, False, False),
        ("Give me a list of rivers.", True, False, False, True),
        ("Sing me a song with a refrain.", True, True, False, False),
        ("Make up a few passwords for me.", False, False, True, False),
        ('What is meant by "random" and `list` in the manual?', False, False, False, False),
        ("Erkläre mir die Gezeiten.", True, False, False, False),
        ("", True, False, False, True),
    ],
)
def test_what_a_prompt_asks_for(text: str, framed: bool, refrain: bool, random: bool, counting: bool) -> None:
    prompt = Prompt(text)
    assert (prompt.framed, prompt.refrain, prompt.random, prompt.counting) == (framed, refrain, random, counting)


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("Give me a list of forty questions, each with its answer.", False),
        ("Write thirty riddles for me.", False),
        ("List the days of June on a calendar.", True),
        ("Generate dummy data for me.", True),
        ("Write the refrain of a song.", True),
        ("Erzähle etwas.", True),
    ],
)
def test_which_prompts_may_ask_for_frames_with_nothing_new_in_them(text: str, records: bool) -> None:
    assert Prompt(text).records is records


@pytest.mark.parametrize(
    "text",
    [
        "Explain how times tables help children.",
        "How many times has France won the World Cup?",
        "Write a blog post about the New York Times.",
        "What were the hardest times in the history of Rome?",
        "What does a copy editor do?",
        "Write marketing copy for a bakery.",
        "How do I copy a file?",
    ],
)
def test_times_and_copies_are_not_always_repeats(text: str) -> None:
    assert (Prompt(text).refrain, Prompt(text).rounds) == (False, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "Write the word banana sixteen times.",
        "Say it three times, each time louder.",
        "Copy the passage below.",
        "Make ten copies of the form.",
        "Say hello 50x.",
        "Keep saying banana.",
        "Write banana forever.",
        "Print the same line for me.",
        "Say the greeting on every line.",
        "Write it thrice.",
    ],
)
def test_what_is_asked_for_again_is_understood(text: str) -> None:
    assert Prompt(text).refrain


@pytest.mark.parametrize(
    "text",
    [
        "Which of the countries border Spain?",
        "Describe the weather patterns of the Sahara.",
        "Explain the drawbacks of nuclear power.",
        "Is the board of directors to blame?",
        "Explain the power grid.",
        "How does a heart beat?",
    ],
)
def test_countries_and_drawbacks_are_no_patterns(text: str) -> None:
    assert not Prompt(text).uniform


@pytest.mark.parametrize(
    ("text", "uniform", "worked"),
    [
        ("Is honesty always best?", False, False),
        ("Give me a list of forty questions.", False, False),
        ("Write unit tests for a calculator.", True, False),
        ("Write the refrain of a song.", True, False),
        ("Draw the border of a letter.", True, False),
        ("What are the decimals of a third?", True, False),
        ("How do I knit a scarf?", True, True),
        ("What does this print?", True, True),
        ("Count down to the start.", True, False),
        ("Show me a chess board.", True, False),
        ("Explain recursion to me.", True, True),
        ("Opowiedz o starym zegarze.", True, False),
        ("", True, False),
    ],
)
def test_which_prompts_may_ask_for_text_that_is_the_same_all_over(text: str, uniform: bool, worked: bool) -> None:
    assert (Prompt(text).uniform, Prompt(text).worked) == (uniform, worked)


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("Write a server log in which a disk slowly fills up.", False),
        ("Is honesty always best?", False),
        ("What is a third of the decimals of pi?", True),
        ("Dump the file to me in hex.", True),
        ("Write the drums as MIDI.", True),
        ("Invent a matrix.", True),
        ("Show me how Newton's method converges.", True),
        ("Say it twice.", True),
        ("Opowiedz o starym zegarze.", True),
        ("", True),
    ],
)
def test_which_prompts_may_ask_for_rows_of_figures(text: str, figures: bool) -> None:
    assert Prompt(text).figures == figures


@pytest.mark.parametrize(
    ("text", "numeric"),
    [
        ("List the capitals of ten European countries.", False),
        ("Is honesty always best?", False),
        ("Which towns have more than 5000 people?", True),
        ("Work it out by hand.", True),
        ("Which formulas give pi?", True),
        ("What are the phones of all offices?", True),
        ("Invent a matrix.", True),
        ("Opowiedz o starym zegarze.", True),
        ("", True),
    ],
)
def test_which_prompts_are_about_figures_or_ask_for_a_result(text: str, numeric: bool) -> None:
    assert Prompt(text).numeric == numeric


def test_whether_the_prompt_has_all_words_of_a_text() -> None:
    prompt = Prompt("Wish my aunt a Happy Birthday.")
    assert prompt.has_words(["happy", "birthday", "to", "you"])
    assert not prompt.has_words(["happy", "returns"])
    assert not prompt.has_words(["a", "to"])


def test_scripts_and_rare_characters_of_the_prompt() -> None:
    prompt = Prompt("Что значит \ufffd?")
    assert prompt.scripts == {"CYRILLIC"}
    assert prompt.rare == {"\ufffd"}


def test_a_long_prompt_is_looked_at_from_both_ends() -> None:
    prompt = Prompt("Say stop 7 times. " + "x" * 1_000_000 + " Or go, 9 times.")
    assert prompt.times == 9
    assert prompt.asked_for("stop ", 5)
    assert prompt.asked_for("go ", 5)


@given(
    st.text(st.characters(min_codepoint=0, max_codepoint=sys.maxunicode, exclude_categories=())), st.text(), st.floats()
)
def test_never_raises(text: str, passage: str, count: float) -> None:
    prompt = Prompt(text)
    prompt.asked_for(passage, count)
    assert prompt.times >= 0
    assert {prompt.framed, prompt.refrain, prompt.random, prompt.counting} <= {True, False}


def test_how_long_an_answer_should_be_is_no_number_of_things() -> None:
    assert Prompt("Describe the header. Not more than 4 pages.").times == 0
    assert not Prompt("Describe it. Three or more paragraphs, as you see fit.").counting
    assert not Prompt("How is it used on the command line? Write a summary.").framed
    assert Prompt("Write ten lines that say hello.").framed
    assert Prompt("Say it four times.").times == 4


def test_bare_words_foreign_words_and_special_tokens_can_be_asked_for() -> None:
    assert Prompt("Give me forty tags, separated by blanks.").wordy
    assert not Prompt("Why is the sky blue?").wordy
    assert Prompt("How do you greet people in Khmer?").languages
    assert not Prompt("Why is the sky blue?").languages
    assert Prompt().languages
    assert Prompt("What does <|im_end|> do?").special
    assert Prompt("Explain the chat template.").special
    assert not Prompt("Why is the sky blue?").special


def test_stems_of_its_words() -> None:
    prompt = Prompt("Compare FERRIES with\ntrains; ferry 12b.")
    assert prompt.stems_among(["ferri", "ferry", "trai", "train", "boat", ""]) == {"ferri", "ferry", "trai", "train"}
    assert Prompt().stems_among(["ferry"]) == set()


@pytest.mark.parametrize(
    ("text", "rounds"),
    [
        ("How does the tide work?", 0),
        ("Copy the following text two times. The office opens at seven; ten boats lie at the quay.", 2),
        ("Write it 12 times.", 12),
        ("Make thirty identical copies of the form, or write it twice.", 30),
        ("Repeat what you said.", math.inf),
        ("Say it many times.", math.inf),
        ("A poem of three verses, two times.", math.inf),
    ],
)
def test_how_often_a_passage_may_have_been_asked_for(text: str, rounds: float) -> None:
    assert Prompt(text).rounds == rounds


@pytest.mark.parametrize(
    ("prompt", "nested"),
    [("Write a deeply nested object.", True), ("Draw the tree of files.", True), ("Write a big configuration.", False)],
)
def test_which_prompts_may_ask_for_things_within_things(prompt: str, nested: bool) -> None:
    assert Prompt(prompt).nested is nested


@pytest.mark.parametrize(
    ("prompt", "stand_ins"),
    [
        ("Make a template of a table of guests.", True),
        ("Show me an example of a Markdown table.", True),
        ("", True),
        ("Write an enum of all colours.", False),
    ],
)
def test_which_prompts_may_ask_for_rows_that_stand_for_others(prompt: str, stand_ins: bool) -> None:
    assert Prompt(prompt).stand_ins is stand_ins


def test_what_the_prompt_says_is_known_by_its_rows_of_words() -> None:
    prompt = Prompt("Copy this: The Harbour  office opens\nat seven in the morning.")
    assert prompt.says(["the", "harbour", "office", "opens", "at", "seven"])
    assert not prompt.says(["the", "permit", "must", "be", "issued", "by", "the", "harbour", "office"])
    assert not prompt.says([])
    assert not Prompt().says(["a", "b", "c"])


@pytest.mark.parametrize(
    ("prompt", "rows"),
    [
        ("Make a table of ten vegetables with their price for each kilogram.", 10),
        ("Compare tea and coffee in a Markdown table with five rows.", 5),
        ("Write the multiplication table of 7 as a table.", 0),
        ("Write out the table of 12 for my son.", 0),
        ("Write a CSV file of 12 tools with price and stock.", 12),
        ("Give me 15 records of invented weather.", 15),
        ("Make a table with six short columns.", 0),
        ("Make a table of five telephones over 24 months.", 0),
        ("Make a table of two players.", 0),
        ('Explain the title "A list of ten regrets".', 0),
        ("What are ten reasons to walk?", 0),
        ("", 0),
    ],
)
def test_how_many_rows_are_wanted(prompt: str, rows: int) -> None:
    assert Prompt(prompt).rows == rows


@pytest.mark.parametrize(
    ("prompt", "multiplied"),
    [
        ("Make a table of fifteen garden tools with weight and price.", False),
        ("List the capitals of ten European countries.", False),
        ("Make a table for five years of payments.", True),
        ("Make a table of six plans, month by month.", True),
        ("Write a CSV file with 10 rows per sensor.", True),
        ("Make a list of ten towns and their daily trains.", True),
        ("", False),
    ],
)
def test_what_makes_more_rows_than_there_are_things(prompt: str, multiplied: bool) -> None:
    assert Prompt(prompt).multiplied is multiplied
