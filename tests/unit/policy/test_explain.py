"""A policy in plain English."""

from __future__ import annotations

import math

from guard.policy.explain import explain
from guard.policy.schema import All, Any, Confirm, HoldBack, HoldMode, Leaf, Match, Not, Policy, Rule, Span
from guard.types import Action, Kind, SignalRef, Unit, Window


def test_each_rule_is_one_sentence() -> None:
    fall = Leaf(signal=SignalRef("fall", Window(8, Unit.TOKENS)), zero=0.4, one=0.7, step=False)
    low = Leaf(signal=SignalRef("length"), zero=1.4, one=-math.inf, step=True, after=128)
    when = All((fall, Any((low, Not(low)))))
    text = explain(
        Policy(
            name="p",
            hold_back=HoldBack(mode=HoldMode.WINDOW, window=48),
            rules=(Rule(name="r", kind=Kind.GARBLED, action=Action.CUT, when=when, persist=16),),
        )
    )
    assert text.splitlines() == [
        "Policy p",
        "The latest 48 tokens are always held; from suspicion 0.5 on text waits, at most 512 tokens of it.",
        "No answer is retried for what it says; one lost on its way is tried at most 3 times in all.",
        "r (garbled): cut the answer when fall over 8 tokens rises to 0.7 (suspicious from 0.4) and "
        "(length is below 1.4, after 128 tokens or not (length is below 1.4, after 128 tokens)), "
        "once this has held for 16 tokens.",
    ]


def test_what_does_not_fit_on_a_line_is_laid_out_in_its_parts() -> None:
    fall = Leaf(signal=SignalRef("acceptance_fall", Window(32, Unit.TOKENS)), zero=0.4, one=0.7, step=False)
    low = Leaf(signal=SignalRef("function_words", Window(240, Unit.CHARACTERS)), zero=0.4, one=0.3, step=False)
    many = Any((All((fall, low)), All((low, low, Not(Any((All((fall, low)), All((fall, low, low)))))))))
    rules = (
        Rule(name="long", kind=Kind.GARBLED, action=Action.RETRY, when=All((fall, many)), persist=8),
        Rule(name="one", kind=Kind.GARBLED, action=Action.RETRY, when=All((many,))),
        Rule(name="short", kind=Kind.GARBLED, action=Action.RETRY, when=All((fall, _any()))),
    )
    one, other = (
        "acceptance_fall over 32 tokens rises to 0.7 (suspicious from 0.4)",
        "function_words over 240 characters falls to 0.3 (suspicious from 0.4)",
    )
    inner = [
        f"    {one} and {other}",
        "    all of",
        f"        {other}",
        f"        {other}",
        "        not",
        "            any of",
        f"                {one} and {other}",
        "                all of",
        f"                    {one}",
        f"                    {other}",
        f"                    {other}",
    ]
    assert explain(Policy(name="p", rules=rules)).splitlines()[4:] == [
        "long (garbled): abort and retry when all of",
        f"    {one}",
        "    any of",
        *(f"    {line}" for line in inner[:-1]),
        f"    {inner[-1]},",
        "    once this has held for 8 tokens.",
        "one (garbled): abort and retry when any of",
        *inner[:-1],
        f"{inner[-1]}.",
        f"short (garbled): abort and retry when {one} and x is above 1.",
    ]


def test_holding_nothing_and_everything() -> None:
    rules = (Rule(name="r", kind=Kind.GARBLED, action=Action.NOTE, when=_any()),)
    assert "No text is held" in explain(Policy(name="p", rules=rules, hold_back=HoldBack(mode=HoldMode.OFF)))
    assert "whole answer" in explain(Policy(name="p", rules=rules, hold_back=HoldBack(mode=HoldMode.FULL)))


def test_confirmation_is_told() -> None:
    rules = (Rule(name="r", kind=Kind.GARBLED, action=Action.NOTE, when=_any()),)
    text = explain(Policy(name="p", rules=rules, confirm=Confirm(kinds=(Kind.GARBLED,), timeout=2.5)))
    assert "Before a verdict of garbled is acted on" in text
    assert "at most 2.5 seconds" in text


def _any() -> Leaf:
    return Leaf(signal=SignalRef("x"), zero=1, one=math.inf, step=True)


def test_what_it_is_for_and_what_single_kinds_get() -> None:
    match = Match(model=("a*", "b"), header=(("x-team", "s*"),), prompt_tokens=Span(above=1000))
    rules = (Rule(name="r", kind=Kind.REPETITION, action=Action.RETRY, when=_any()),)
    text = explain(Policy(name="p", rules=rules, match=match, kind_attempts={Kind.REPETITION: 1}))
    assert "For requests with model a* or b and header x-team: s* and a prompt above 1000 tokens." in text
    assert "After a verdict of repetition: at most 1 in all." in text
