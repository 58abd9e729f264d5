"""The words that sentences need."""

from __future__ import annotations

import math

import pytest

from guard.detect.languages import function_share

SENTENCES = {
    "English": "the harbour master said that the ferry would not leave before the fog had lifted from the water",
    "German": "der hafenmeister sagte dass die fähre nicht ablegt bevor sich der nebel über dem wasser gehoben hat",
    "French": "le capitaine du port a dit que le bac ne partirait pas avant que la brume ne se lève sur la mer",
    "Polish": "kapitan portu powiedział że prom nie odpłynie do czasu aż mgła się podniesie nad wodą i będzie jasno",
    "Russian": "капитан порта сказал что паром не уйдет пока туман не поднимется над водой и не станет светло",
    "Finnish": "satamamestari sanoi että lautta ei lähde ennen kuin sumu on noussut ja että se voi kestää",
    "Greek": "ο λιμενάρχης είπε ότι το πλοίο δεν θα φύγει από το λιμάνι πριν να σηκωθεί η ομίχλη",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_fifth_of_a_sentence_and_more(language: str) -> None:
    assert function_share(SENTENCES[language].split()) >= 0.2


@pytest.mark.parametrize(
    "text",
    [
        "arnier aceine ula teress ment ishtor ustell gramo ischen filimp blegrai",
        "copenhagen rotterdam antwerp marseille piraeus gdansk valencia felixstowe",
        "config parse buffer stream index offset length value token parser",
    ],
)
def test_hardly_any_in_salad_names_and_identifiers(text: str) -> None:
    assert function_share(text.split()) < 0.1


def test_unknown_where_no_list_can_say() -> None:
    assert math.isnan(function_share(["ท่าเรือ", "หมอก", "เรือ"]))
    assert math.isnan(function_share(["항구의", "안개가", "짙었다"]))


def test_words_of_one_language_only_are_counted() -> None:
    # "in" is English, German, Dutch and Italian, "och" Swedish alone: they are never added up.
    assert function_share(["in", "och", "pier", "quay"]) == 0.25
