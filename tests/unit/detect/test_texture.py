"""What stands side by side in the latest text."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from guard.detect.glance import REACH, glance
from guard.detect.shape import code_of
from guard.detect.texture import Texture, TextureWindow, closed

PAGE = 32


def read(text: str, pages: int = 5, share: Callable[[TextureWindow], float] = TextureWindow.symbol_salad) -> float:
    texture = Texture(PAGE)
    window, shape = texture.window(pages), b""
    for start in range(0, len(text) - len(text) % PAGE, PAGE):
        page = text[start : start + PAGE]
        tail, shape = shape[-REACH:], bytes(map(code_of, page))
        marks, _, longest, _, _ = glance(tail, shape)
        texture.add(page, marks, longest)
    return share(window)


def test_marks_at_random_make_ever_new_pairs() -> None:
    dice = random.Random(3)
    assert read("".join(dice.choice("!#$%&*+-/:;<=>?@^_|~ ") for _ in range(300))) > 0.2


def test_code_and_drawings_use_the_same_pairs_again() -> None:
    assert read("for (let i = 0; i < list.length; i++) { total += list[i].price(); }\n" * 4) < 0.08
    assert read("+-----+-----+\n|     |     |\n" * 8) < 0.04


def test_marks_whose_brackets_close_what_they_should_are_in_order() -> None:
    pattern = r"(?:19|20)[-/](?:0[1-9]|1[0-2])$|^[\w.%+-]+@(?:[^.!#]+\.)+(?=[a-z]{2,})|\{[&*;]~?\}|<!(?:--)?" + " "
    assert read(pattern * 3) == 0.0
    assert read(pattern.translate(str.maketrans("()[]{}", "([{)}]")) * 3) > 0.1


def test_how_brackets_close() -> None:
    assert closed("f(a[b{c}]) and (d)") == (4, 0)
    assert closed("f() or [] or {}") == (0, 0), "an empty pair is one token of many vocabularies"
    assert closed("(a] [b) {c} ") == (1, 2)
    assert closed("b) c] and on it goes") == (0, 0), "it may begin within brackets"


def test_pairs_of_ideographs_say_nothing_while_they_are_few() -> None:
    terse = "".join(chr(0x4E00 + place) for place in range(0, 2560, 10))
    assert read(terse, 8, TextureWindow.pair_recurrence) == 0.0
    assert math.isnan(read(terse[:160], 8, TextureWindow.pair_recurrence))


def test_prose_is_not_even_counted() -> None:
    assert read("The ferry left at nine; nobody (not even the pilot) had seen it come. " * 4) == 0.0


def test_a_long_number_is_no_salad_of_figures() -> None:
    number = (
        "1/97 is 0."
        + "010309278350515463917525773195876288659793814432989690721649484536082474226804123711340206185567" * 3
    )
    assert read(number, share=TextureWindow.figure_salad) == 0.0
    assert read(number.replace("7", " 7) "), share=TextureWindow.figure_salad) > 0.0


def test_figures_and_marks_without_a_line_end() -> None:
    dice = random.Random(5)
    salad = " ".join(dice.choice(["5", "0", "45", "**", ")", "5.5", "***", "00"]) for _ in range(120))
    assert read(salad, 7, TextureWindow.figure_salad) > 0.5
    digits = "".join(dice.choice("0123456789") for _ in range(300))
    assert read(digits, 7, TextureWindow.figure_salad) < 0.3
    assert read("0 0 0 1\n0 0 1 0\n" * 20, 7, TextureWindow.figure_salad) == 0.0
    assert read("the tide turned at nine and the ferry left at ten " * 8, 7, TextureWindow.figure_salad) == 0.0


def test_pairs_of_ideographs_come_back_in_a_text_and_not_in_a_draw() -> None:
    text = "港口管理员说渡轮要等雾散了才能离开港口。渡轮上的乘客在港口等了很久，管理员给乘客送来了热茶。" * 6
    assert read(text, 8, TextureWindow.pair_recurrence) > 0.3
    dice = random.Random(7)
    draw = "".join(chr(dice.randrange(0x4E00, 0x4E00 + 400)) for _ in range(300))
    assert read(draw, 8, TextureWindow.pair_recurrence) < 0.01
    assert math.isnan(read("The ferry left at nine. " * 12, 8, TextureWindow.pair_recurrence))


def test_words_glued_together_are_longer_than_words() -> None:
    dice = random.Random(9)
    words = ["water", "place", "lambda", "year", "mother", "house", "point", "hand"]
    assert read("".join(dice.choice(words) for _ in range(80)), 7, TextureWindow.glued_words) > 0.9
    german = "Die Hafenverwaltungsordnung regelt, wer im Hafen zuständig ist, auch für die Schifffahrtsaufsicht. "
    assert read(german * 4, 7, TextureWindow.glued_words) < 0.25
    assert read("acgtgctaacgtgatcgatcgtagc" * 12, 7, TextureWindow.glued_words) == 0.0


def test_special_tokens_are_counted_and_markup_is_not() -> None:
    leak = "month<extra_id_31><|reserved_142|> story<0x9F>[unused88]<|pad_7|> area<unk>[PAD]"
    assert read(leak + " " * (PAGE * 5 - len(leak)), 5, TextureWindow.special_tokens) == 7.0
    markup = "<p class='x'>ferry</p> <tool_call>{}</tool_call> [INFO] <s>old</s> "
    assert read(markup * 5, 5, TextureWindow.special_tokens) == 0.0


def test_words_glued_together_are_seen_over_the_end_of_a_page_and_forgotten_with_it() -> None:
    glued = "abcdefgh" * 4
    assert read(" " * 20 + glued + " " * 12, 2, TextureWindow.glued_words) == 0.5
    assert read(glued + " " * 64, 2, TextureWindow.glued_words) == 0.0
    # Of a run that only ends in the window, what stands there counts.
    assert (
        read("x" * 22 + "yzabcdefgh" + "abcdefghijklmnopqrstuvw" + " " * 9 + " " * 32, 2, TextureWindow.glued_words)
        == 23 / 64
    )
    assert read("x " * 48, 2, TextureWindow.glued_words) == 0.0
