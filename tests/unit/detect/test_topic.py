"""Whether the text left its subject where acceptance fell."""

from __future__ import annotations

import math
from itertools import cycle, islice

from hypothesis import given
from hypothesis import strategies as st

from guard.detect.prompt import Prompt
from guard.detect.topic import EARLY, STRETCH, TopicBreak, stems

PAGE = 64
SEA = (
    "The ferry crosses the sound twice each morning, and the pilot of the ferry knows every rock in the sound. "
    "Passengers wait on the quay until the pilot waves; the quay is old, and the rocks below the quay are older. ",
    "When fog lies over the sound the ferry stays at the quay, the passengers drink tea and the pilot tells stories "
    "of rocks, of storms and of a ferry that was lost in the sound. ",
    "In storms the quay is closed, and no pilot would take passengers across; the ferry pulls at its ropes and waits. ",
)
TENANCY = (
    "tenant whose notice was served by any landlord entitled to the deposit under the terms of this agreement, and "
    "the guarantor may not enter such premises while rent is owed to the agent acting for either party in writing "
    "or by a court in respect of arrears, including interest and costs of the proceedings, whichever is later, as "
    "provided by schedule two of the lease which the surveyor has signed on behalf of the freehold company. "
)


def sea(words: int) -> str:
    """So many words about the ferry."""
    return " ".join(islice(cycle(" ".join(SEA).split()), words)) + " "


def read(before: str, after: str, prompt: str = "") -> float:
    """The reading after both, the fall between them."""
    topic = TopicBreak(Prompt(prompt))
    text = before + after
    whole = len(text) - len(text) % PAGE
    value = math.nan
    for start in range(0, whole, PAGE):
        topic.add(text[start : start + PAGE])
        value = topic.value(200, start + PAGE - len(before))
    return value


def test_sentences_about_something_else_are_a_break() -> None:
    assert read(sea(240), TENANCY + TENANCY) > 0.7


def test_a_text_that_stays_with_its_subject_has_none() -> None:
    assert read(sea(240), "until the storm is over and " + sea(100)) < 0.1


def test_words_of_the_prompt_are_known() -> None:
    assert read(sea(240), TENANCY + TENANCY, "Tell me about the ferry, and then: " + TENANCY) < 0.1


def test_before_a_whole_stretch_has_come_little_is_said() -> None:
    words = TENANCY.split()
    early = " ".join(words[: EARLY + 14]) + " "
    assert len(early.split()) < STRETCH
    assert read(sea(240), early) == 0.5
    assert math.isnan(read(sea(240), " ".join(words[: EARLY - 6]) + " "))


def test_nothing_is_said_after_a_short_text_nor_in_one_that_never_repeats_a_word() -> None:
    assert math.isnan(read(sea(120), TENANCY + TENANCY))
    names = " ".join(f"{chr(97 + n % 26) * 3}{chr(97 + n // 26 % 26) * 3}olm" for n in range(260)) + " "
    assert math.isnan(read(names, TENANCY + TENANCY))


def test_words_few_and_far_between_are_no_sentences() -> None:
    table = "".join(f"| {word:<12} | 17.2 | 18.9 | 21.4 |\n" for word in (TENANCY + TENANCY).split())
    assert math.isnan(read(sea(240), table))


def test_once_a_stretch_has_come_the_reading_of_a_fall_stays_and_another_fall_is_read_anew() -> None:
    topic = TopicBreak(Prompt())
    text = (sea(240) + TENANCY + TENANCY).ljust(4096)[:4096]
    begun = len(sea(240))
    for start in range(0, 2560, PAGE):
        topic.add(text[start : start + PAGE])
        topic.value(200, start + PAGE - begun)
    settled = topic.value(200, 2560 - begun)
    assert settled > 0.7
    assert "known from before" in topic.why()
    for start in range(0, 9000, PAGE):
        topic.add(sea(20)[:PAGE])
        assert topic.value(200, 2560 + start - begun) == settled
    assert math.isnan(topic.value(900, 0))


def test_a_fall_that_is_not_in_the_text_any_more_is_unknown() -> None:
    topic = TopicBreak(Prompt())
    for _ in range(60):
        topic.add(sea(20)[:PAGE])
    assert math.isnan(topic.value(3, 60 * PAGE))
    assert math.isnan(topic.value(4, -1))


def test_words_of_a_subject_are_told_by_their_first_letters() -> None:
    assert stems(["the", "ferries", "ferry", "with", "sea", "crossing"]) == ["", "ferri", "ferry", "", "", "cross"]


@given(st.lists(st.text("aé漢\U0001f600", min_size=1, max_size=400), max_size=40))
def test_the_latest_text_is_the_end_of_it_all(pages: list[str]) -> None:
    topic, whole = TopicBreak(Prompt()), b""
    for page in pages:
        topic.add(page)
        whole += page.encode()
        assert topic.latest == whole[-2880:]
