"""Which workers are ended because they say nothing, on a clock of numbers."""

from __future__ import annotations

from guard.server.hung_workers import Silence

ONE, TWO = 11, 12


def rounds(silence: Silence, start: float, end: float, answered: dict[int, bool]) -> list[int]:
    """Questions every five seconds; who hangs after the last."""
    hung: list[int] = []
    at = start
    while at <= end:
        hung = silence.hung(at, answered)
        at += 5.0
    return hung


def test_one_that_says_nothing_for_a_minute_hangs_and_no_other() -> None:
    silence = Silence()
    assert rounds(silence, 0, 100, {ONE: True, TWO: True}) == []
    assert rounds(silence, 105, 155, {ONE: False, TWO: True}) == []
    assert rounds(silence, 160, 160, {ONE: False, TWO: True}) == [ONE]


def test_one_answer_is_enough() -> None:
    silence = Silence()
    rounds(silence, 0, 55, {ONE: False})
    assert silence.hung(58, {ONE: True}) == []
    assert rounds(silence, 60, 115, {ONE: False}) == []


def test_a_new_process_has_its_own_minute() -> None:
    silence = Silence()
    assert rounds(silence, 0, 60, {ONE: False}) == [ONE]
    assert rounds(silence, 65, 120, {TWO: False}) == []
    assert silence.hung(125, {TWO: False}) == [TWO]


def test_nobody_hangs_when_the_one_that_asks_was_held_up_itself() -> None:
    """A machine that stood still: the workers did too, and have not had the time to answer."""
    silence = Silence()
    rounds(silence, 0, 50, {ONE: False, TWO: True})
    assert silence.hung(80, {ONE: False, TWO: False}) == []
    assert rounds(silence, 85, 135, {ONE: False, TWO: True}) == []
    assert silence.hung(140, {ONE: False, TWO: True}) == [ONE]
