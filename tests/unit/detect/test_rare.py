"""Rare characters and mixtures of scripts."""

from __future__ import annotations

from guard.detect.prompt import Prompt
from guard.detect.rare import CharacterScan, NamesWindow, ScriptWindow

PAGE = 16


def read(text: str, pages: int = 8, prompt: str = "") -> tuple[int, ScriptWindow]:
    scan, window, rare = CharacterScan(Prompt(prompt)), ScriptWindow(pages, PAGE), 0
    for start in range(0, len(text) - len(text) % PAGE, PAGE):
        scan.feed(text[start : start + PAGE])
        window.add(scan)
        rare += scan.rare
    return rare, window


def test_control_characters_count_in_ascii_too() -> None:
    assert read("tab\tand\nnewline \x00\x01 and more text..")[0] == 2


def test_replacement_characters_count() -> None:
    assert read("ab\ufffd\ufffd cd \ufffd efghijk")[0] == 3


def test_scripts_glued_into_words_are_salad() -> None:
    _, window = read("деньtree漢字ของ말boatκαιнет" * 6)
    assert window.value() > 0.2
    assert len(window.names()) >= 3


def test_one_second_script_is_not() -> None:
    assert read("Слово за слово, and word for word. " * 6)[1].value() == 0.0


def test_japanese_mixes_its_scripts_by_right() -> None:
    assert read("今日はコーヒーを飲みながらPythonのコードを読みました。" * 6)[1].value() == 0.0


def test_greek_in_mathematics_is_at_home() -> None:
    assert read("Let αx + βy = γ, where ψ maps λ to μ. " * 6)[1].value() == 0.0


def test_a_list_of_languages_is_not_glued() -> None:
    text = "ru=Привет\nko=안녕하세요\nth=สวัสดี\nar=مرحبا\n" * 6
    assert read(text)[1].value() < 0.03


def test_what_leaves_the_window_is_forgotten() -> None:
    _, window = read("деньtree漢字ของ말boat" * 6 + "plain words again. " * 20)
    assert window.value() == 0.0
    assert window.names() == []


def test_what_the_prompt_holds_is_at_home() -> None:
    assert read("ab\ufffd\ufffd cd \ufffd efghijk", prompt="What does \ufffd mean?")[0] == 0
    assert read("деньtree漢字ของ말boatκαιнет" * 6, prompt="день 漢字 ของ 말")[1].value() == 0.0


def glued(text: str, prompt: str = "") -> NamesWindow:
    scan, window = CharacterScan(Prompt(prompt)), NamesWindow(20)
    for start in range(0, len(text) - len(text) % PAGE, PAGE):
        scan.feed(text[start : start + PAGE])
        window.add(scan.glued)
    return window


def test_scraps_of_scripts_grown_into_words_are_counted() -> None:
    window = glued("the lampของ and the wellность, a doorلات for every houseթյան in the street")
    assert window.names() == ["ARABIC", "ARMENIAN", "CYRILLIC", "THAI"]
    assert window.value() == 4.0
    assert window.onset() == 4


def test_scripts_side_by_side_are_not_glued() -> None:
    assert glued("Спасибо, 谢谢, شكرا, ขอบคุณ, 감사합니다, תודה and thank you all." * 2).value() == 0.0


def test_scripts_without_spaces_touch_others_by_right() -> None:
    assert glued("今日はPythonのコードを読みました。한글과English도 섞어 씁니다." * 2).value() == 0.0


def test_styled_letters_are_odd_and_emoji_are_not() -> None:
    scan = CharacterScan(Prompt())
    scan.feed("\U0001d400\U0001d401 \u2776\u2777 ok")
    assert (scan.odd, scan.rare) == (4, 0)
    scan.feed("well done \u2728 \u2705 \U0001f600")
    assert scan.odd == 0


def test_calm_counts_plain_pages_in_a_row() -> None:
    scan = CharacterScan(Prompt())
    for page in ("plain text, only.", "and some more of it", "\x00", "plain again"):
        scan.feed(page)
    assert scan.calm == 1


def strays(text: str, prompt: str = "") -> set[str]:
    scan, found = CharacterScan(Prompt(prompt)), set()
    for start in range(0, len(text) - len(text) % PAGE, PAGE):
        scan.feed(text[start : start + PAGE])
        found |= scan.strays
    return found


def test_single_words_of_other_scripts_in_the_middle_of_a_sentence() -> None:
    text = "the value \u1798\u17bd\u1799 is kept regardless of печат When the buffer 클릭 is read again and again"
    assert strays(text) == {"KHMER", "CYRILLIC", "HANGUL"}
    assert strays(text, "Was heißt печат?") == {"KHMER", "HANGUL"}


def test_words_quoted_explained_or_listed_are_no_strays() -> None:
    assert strays("the word «печат» (seal), in Korean: 클릭, and in Greek λόγος means word here ..") == set()
    assert strays("naïve coöperation über alles déjà vu and so on and on until the end of it all") == set()


def test_odd_signs_are_of_four_kinds() -> None:
    scan = CharacterScan(Prompt())
    scan.feed("a\U0001d400b\u2766c\u28ffd\U0001f701e \u2713\u2764 fg")
    assert scan.kinds == {"STYLED LETTERS", "DINGBATS", "BRAILLE", "ALCHEMY"}
    assert scan.odd == 4
