"""Which requests a policy is for."""

from __future__ import annotations

import time

import pytest

from guard.policy.match import RequestFacts, fits, matches
from guard.policy.schema import Match, Span

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("glob", "text", "expected"),
    [
        ("qwen", "qwen", True),
        ("qwen", "Qwen", False),
        ("qwen*", "qwen3-32b", True),
        ("*32b", "qwen3-32b", True),
        ("q*-*b", "qwen3-32b", True),
        ("q*-*b", "qwen3-32b-chat", False),
        ("q?en*", "qwen", True),
        ("?", "", False),
        ("*", "", True),
        ("**", "anything", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_globs(glob: str, text: str, expected: bool) -> None:
    assert fits(glob, text) is expected


def test_a_hostile_text_costs_no_more_than_the_product_of_lengths() -> None:
    started = time.perf_counter()
    assert not fits("*a" * 60 + "b", "a" * 4000)
    assert time.perf_counter() - started < 2.0


def facts(**given: object) -> RequestFacts:
    base: dict[str, object] = {"model": "qwen3-32b", "route": CHAT, "headers": {"x-team": "search"}}
    return RequestFacts(**{**base, "prompt_characters": 400, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "match",
    [
        Match(),
        Match(model=("llama*", "qwen*")),
        Match(route=("/v1/chat/*",)),
        Match(header=(("x-team", "sea*"),)),
        Match(prompt_characters=Span(above=399, below=401)),
        Match(prompt_tokens=Span(above=99, below=101)),
        Match(model=("qwen*",), route=(CHAT,), header=(("x-team", "*"),), prompt_tokens=Span(below=1000)),
    ],
)
def test_what_fits(match: Match) -> None:
    assert matches(match, facts())


@pytest.mark.parametrize(
    "match",
    [
        Match(model=("llama*",)),
        Match(route=("/v1/completions",)),
        Match(header=(("x-team", "ads"),)),
        Match(header=(("x-other", "*"),)),
        Match(prompt_characters=Span(above=400)),
        Match(prompt_tokens=Span(below=100)),
        Match(model=("qwen*",), route=("/v1/completions",)),
    ],
)
def test_what_does_not(match: Match) -> None:
    assert not matches(match, facts())


def test_tokens_that_were_counted_are_taken_at_their_word() -> None:
    assert not matches(Match(prompt_tokens=Span(above=99)), facts(prompt_tokens=7))
