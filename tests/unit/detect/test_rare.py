"""Rare characters and mixtures of scripts."""

from __future__ import annotations

from guard.detect.rare import RareScan, ScriptWindow


def read(text: str, blocks: int = 8) -> tuple[int, ScriptWindow]:
    scan, window, rare = RareScan(), ScriptWindow(blocks, 16), 0
    for start in range(0, len(text) - len(text) % 16, 16):
        scan.feed(text[start : start + 16])
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
