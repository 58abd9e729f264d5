"""Broken word shapes, above what the text had before."""

from __future__ import annotations

from guard.detect.garble import GarbleScan, GarbleWindow
from guard.detect.prompt import Prompt
from guard.detect.rare import CharacterScan

PAGE = 32

PROSE = "A kettle takes about four minutes to boil, depending on how much water it holds and how cold it was. "
SALAD = "rit. MornWhaleght(\"--.isk Overcould,Vard lampWasher}Jtower+ notUSant a.ve'uce enneDef 1 isatCH "
CODE = 'def load(self, name):\n    value = self.cache.get(name)\n    return json.loads(value["body"])\n'


def scan_all(text: str, pages: int) -> GarbleWindow:
    shapes, scan, window = CharacterScan(Prompt()), GarbleScan(), GarbleWindow(pages, PAGE)
    for start in range(0, len(text) - len(text) % PAGE, PAGE):
        page = text[start : start + PAGE]
        shapes.feed(page)
        scan.feed(page, shapes.tail, shapes.shape, shapes.joints)
        window.add(scan.joints)
    return window


def read(text: str, pages: int = 5) -> float:
    return scan_all(text, pages).value()


def test_prose_has_none() -> None:
    assert read(PROSE * 4) < 0.02


def test_salad_stands_out() -> None:
    assert read(PROSE * 4 + SALAD * 2) > 0.15


def test_code_is_measured_against_itself() -> None:
    assert read(CODE * 12) < 0.04


def test_digests_and_base64_are_payload() -> None:
    payload = "c2hlIHdhbGtlZCA5IG1pbGVz/QkZ+81hYzA3Zm9yIGJyZWFkIGFuZCBvaWw7\n"
    assert read(payload * 5) < 0.04


def test_a_short_run_with_digits_is_still_words() -> None:
    assert read("the k9x lamp4 b7c was z3q far off " * 6) > 0.2


def test_formulae_are_left_alone() -> None:
    assert read("\\frac{a_1}{b^2}+\\sqrt{x}\\le\\sum_{i=1}^n y_i, " * 8) < 0.02


def test_onset_points_at_the_first_bad_page() -> None:
    window = scan_all((PROSE * 4)[:320] + (SALAD * 2)[:96], 5)
    assert 2 <= window.joints.onset() <= 4
