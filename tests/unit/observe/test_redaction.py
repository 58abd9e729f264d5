"""What is left of a text, and what is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.observe.redaction import redact, scramble


def test_redaction_keeps_shape_and_script() -> None:
    assert redact("Dear Mr Ødegård,\n\tyou owe £1,204.50!") == "Xxxx Xx Xxxxxxx,\n\txxx xxx £0,000.00!"
    assert redact("Привет, Ωmega 東京タワー") == "Жжжжжж, Ξxxxx 字字字字字"
    assert redact("หนู हिन्दी ᎣᏏ") == "กก\u0301 ऄ\u0301ऄ\u0301ऄ\u0301 ᎠᎠ"
    assert redact("\ufffd\ue000\x07 ** ---- 🙂") == "\ufffd\ue000\x07 ** ---- 🙂"  # what rules on characters look at
    assert redact("Ⅻ ½ ①") == "0 0 0"
    assert redact("𝐀𝓫 𝟗") == "𝑥𝑥 𝟎"


@given(st.text())
def test_redaction_never_fails_and_is_its_own_result(text: str) -> None:
    once = redact(text)
    assert len(once) == len(text)
    assert redact(once) == once


def test_scrambling_keeps_shape_case_script_and_equal_words() -> None:
    text = "The cat saw the CAT, Кот и кот; call 5550 or 5550!"
    words = scramble(text, b"k").replace(",", "").replace(";", "").replace("!", "").split()
    assert words[0].lower() == words[3] != "the"
    assert words[1] == words[4].lower() != "cat"
    assert words[4].isupper()
    assert words[0].istitle()
    assert words[5].lower() == words[7] != "кот"
    assert all("а" <= letter <= "я" for letter in words[7])
    assert words[9] == words[11] != "5550"
    assert words[9].isdecimal()


def test_another_key_gives_another_text() -> None:
    assert scramble("harbour lights", b"a") != scramble("harbour lights", b"b")
    assert scramble("harbour lights", b"a") == scramble("harbour lights", b"a")


def test_a_character_is_a_word_where_no_spaces_are_written() -> None:
    out = scramble("東京東京", b"k")
    assert out[:2] == out[2:]
    assert out != "東京東京"


def test_loops_without_spaces_stay_loops() -> None:
    out = scramble("ab12" * 40, b"k")
    assert out == out[:16] * 10


def test_odd_characters_stay_and_other_scripts_are_redacted() -> None:
    assert scramble("\ufffd\ue000 ** 🙂 _", b"k") == "\ufffd\ue000 ** 🙂 _"
    assert scramble("𝐀𝓫 𝟗", b"k") == "𝑥𝑥 𝟎"
    assert scramble("ᎣᏏ हि", b"k") == "ᎠᎠ ऄ\u0301"


@given(st.text(), st.binary(max_size=16))
def test_scrambling_never_fails_and_keeps_every_place(text: str, key: bytes) -> None:
    out = scramble(text, key)
    assert len(out) == len(text)
    for before, after in zip(text, out, strict=True):
        assert before.isspace() == after.isspace()
