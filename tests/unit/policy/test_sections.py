"""The settings beside the rules, one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guard.errors import ConfigError
from guard.policy.schema import Confirm, Match, Span
from guard.policy.sections import build_confirm, build_hold_back, build_kinds, build_match, build_retry, check_action
from guard.policy.source import ConfirmSource, HoldBackSource, KindSource, MatchSource, RetrySource, SpanSource
from guard.types import Action, Change, Kind
from guard.yamldoc import Document

DOCUMENT = Document("version: 1\n", "p.yaml")
GARBLED = [Kind.GARBLED]


def refuse(build: Callable[[], object], where: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert caught.value.where == where
    assert says in caught.value.message


def test_a_match_with_everything() -> None:
    source = MatchSource(
        model="qwen*", route=("/v1/*",), header={"X-Team": "a*"}, prompt_tokens=SpanSource(above=5, below=9)
    )
    assert build_match(DOCUMENT, source) == Match(
        model=("qwen*",), route=("/v1/*",), header=(("x-team", "a*"),), prompt_tokens=Span(above=5, below=9)
    )


@pytest.mark.parametrize(
    ("source", "where", "says"),
    [
        (MatchSource(model=()), "match.model", "leave it out to fit everything"),
        (MatchSource(model=""), "match.model", "'*' fits everything"),
        (MatchSource(model="x" * 257), "match.model", "at most 256"),
        (MatchSource(route="chat"), "match.route", "like '/v1/chat/completions'"),
        (MatchSource(header={"X-A": "1", "x-a": "2"}), "match.header.x-a", "named twice"),
        (MatchSource(header={" ": "1"}), "match.header. ", "has no name"),
        (MatchSource(header={"x-a": ""}), "match.header.x-a", "fits nothing"),
        (MatchSource(prompt_tokens=SpanSource()), "match.prompt_tokens", "above, below or both"),
        (MatchSource(prompt_tokens=SpanSource(below=0)), "match.prompt_tokens.below", "can never hold"),
        (MatchSource(prompt_tokens=SpanSource(above=9, below=10)), "match.prompt_tokens.below", "above 9 and below 10"),
    ],
)
def test_matches_refused(source: MatchSource, where: str, says: str) -> None:
    refuse(lambda: build_match(DOCUMENT, source), where, says)


def test_a_confirmation_with_everything_and_one_of_nothing() -> None:
    source = ConfirmSource(kinds=(Kind.GARBLED,), timeout=2, max_prefill="100 tokens", prefill_per_second="50 tokens")
    made = Confirm(kinds=(Kind.GARBLED,), timeout=2, max_prefill=100, prefill_per_second=50)
    assert build_confirm(DOCUMENT, source) == made
    assert build_confirm(DOCUMENT, ConfirmSource()) == Confirm()
    assert build_confirm(DOCUMENT, ConfirmSource(kinds=())) is None


@pytest.mark.parametrize(
    ("source", "where", "says"),
    [
        (ConfirmSource(kinds=(Kind.GARBLED, Kind.GARBLED)), "confirm.kinds", "listed twice"),
        (ConfirmSource(timeout=0), "confirm.timeout", "outside (0, 60]"),
        (ConfirmSource(timeout=61), "confirm.timeout", "5 is usual"),
        (ConfirmSource(timeout=float("nan")), "confirm.timeout", "5 is usual"),
        (ConfirmSource(max_prefill="100"), "confirm.max_prefill", "did you mean '100 tokens'"),
        (ConfirmSource(prefill_per_second="0 tokens"), "confirm.prefill_per_second", "at least 1 token"),
    ],
)
def test_confirmations_refused(source: ConfirmSource, where: str, says: str) -> None:
    refuse(lambda: build_confirm(DOCUMENT, source), where, says)


def test_kinds_give_their_attempts() -> None:
    source = {Kind.GARBLED: KindSource(max_attempts=2), Kind.RARE_CHARS: KindSource(action=Action.CUT)}
    assert build_kinds(DOCUMENT, source, [Kind.GARBLED, Kind.RARE_CHARS]) == ({Kind.GARBLED: 2}, {})


def test_kinds_give_their_changes() -> None:
    source = {Kind.REPETITION: KindSource(change=(Change.TEMPERATURE,))}
    assert build_kinds(DOCUMENT, source, [Kind.REPETITION]) == ({}, {Kind.REPETITION: (Change.TEMPERATURE,)})


@pytest.mark.parametrize(
    ("source", "where", "says"),
    [
        ({Kind.REPETITION: KindSource(max_attempts=2)}, "kinds.repetition", "no rule is of this kind"),
        ({Kind.GARBLED: KindSource()}, "kinds.garbled", "give action, max_attempts or change"),
        ({Kind.GARBLED: KindSource(max_attempts=11)}, "kinds.garbled.max_attempts", "outside 1 to 10"),
        ({Kind.GARBLED: KindSource(change=())}, "kinds.garbled.change", "changes nothing repeats the fault"),
        ({Kind.GARBLED: KindSource(change=(Change.SEED,) * 2)}, "kinds.garbled.change", "listed twice"),
        ({Kind.GARBLED: KindSource(action=Action.PASS)}, "kinds.garbled.action", "'note' only records"),
    ],
)
def test_kinds_refused(source: dict[Kind, KindSource], where: str, says: str) -> None:
    refuse(lambda: build_kinds(DOCUMENT, source, GARBLED), where, says)


@pytest.mark.parametrize(
    ("source", "where", "says"),
    [
        (HoldBackSource(hold_at=0.0), "hold_back.hold_at", "outside (0, 1]; 0.5 is usual"),
        (HoldBackSource(hold_at=0.6, act_at=0.5), "hold_back.act_at", "between hold_at (0.6) and 1"),
        (HoldBackSource(act_at=float("nan")), "hold_back.act_at", "must lie between"),
        (HoldBackSource(window="48 tokens"), "hold_back.window", "write mode: window"),
        (HoldBackSource(limit="0 tokens"), "hold_back.limit", "at least 1 token"),
        (HoldBackSource(limit="9999999 tokens"), "hold_back.limit", "longer than any answer"),
        (HoldBackSource(limit="9 steps"), "hold_back.limit", "write '9 tokens'"),
    ],
)
def test_hold_backs_refused(source: HoldBackSource, where: str, says: str) -> None:
    refuse(lambda: build_hold_back(DOCUMENT, source), where, says)


def test_a_retry_that_changes_nothing_is_only_refused_where_something_is_retried() -> None:
    source = RetrySource(change=())
    assert build_retry(DOCUMENT, source, [Action.CUT]).change == ()
    refuse(lambda: build_retry(DOCUMENT, source, [Action.RETRY]), "retry.change", "repeats the fault")


def test_doing_nothing_is_no_action() -> None:
    check_action(DOCUMENT, "action_override", Action.NOTE)
    refuse(lambda: check_action(DOCUMENT, "action_override", Action.PASS), "action_override", "'note' only records")
