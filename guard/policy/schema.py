"""The typed policy, as the loader makes it; its shape in YAML is in source.py."""

from __future__ import annotations

import enum

import msgspec

from guard.types import Action, Change, Kind, SignalRef, WhenExhausted


class HoldMode(enum.StrEnum):
    """When text waits before it goes to the client."""

    SUSPICION = "suspicion"
    WINDOW = "window"
    FULL = "full"
    OFF = "off"


class HoldBack(msgspec.Struct, frozen=True, kw_only=True):
    """
    How text is held back.

    Args:
        mode: Under suspicion, always the latest `window` tokens (more under suspicion), all, or never.
        hold_at: Suspicion from which nothing is released.
        act_at: Score from which a rule's action is taken.
        limit: Most tokens held under suspicion. Unit: tokens.
        window: Tokens always held. Unit: tokens.
    """

    mode: HoldMode = HoldMode.SUSPICION
    hold_at: float = 0.5
    act_at: float = 1.0
    limit: int = 512
    window: int = 0


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """
    How a bad generation is tried again.

    Args:
        max_attempts: Attempts in all, the first included.
        change: What each further attempt does differently.
        max_bad_shown: Most bad text that may stand before a continuation. Unit: tokens.
    """

    max_attempts: int = 3
    max_bad_shown: int = 96
    change: tuple[Change, ...] = (Change.CACHE, Change.SEED)


class Confirm(msgspec.Struct, frozen=True, kw_only=True):
    """
    Have the cache checked by a re-scoring before a verdict is acted on.

    Args:
        kinds: Of verdicts that are confirmed.
        timeout: Longest that the held text waits for it. Unit: seconds.
        max_prefill: Longest prompt and answer that are scored again. Unit: tokens.
        prefill_per_second: Budget of all confirmations of a process. Unit: tokens per second.
    """

    kinds: tuple[Kind, ...] = tuple(Kind)
    timeout: float = 5.0
    max_prefill: int = 16_384
    prefill_per_second: int = 4_000


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """
    A condition on one signal.

    Args:
        signal: What is read.
        zero: Reading that scores 0.
        one: Reading that scores 1; below `zero` when low readings are bad.
        step: True when everything past `one` scores 1 and all else 0 (`above`, `below`).
        after: Scores 0 before this token of the choice. Unit: tokens.
    """

    signal: SignalRef
    zero: float
    one: float
    step: bool
    after: int = 0


class All(msgspec.Struct, frozen=True):
    """Scores the least of its parts."""

    parts: tuple[Condition, ...]


class Any(msgspec.Struct, frozen=True):
    """Scores the greatest of its parts."""

    parts: tuple[Condition, ...]


class Not(msgspec.Struct, frozen=True):
    """Scores 1 minus its part."""

    part: Condition


Condition = Leaf | All | Any | Not


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """
    One rule.

    Args:
        name: Shown in logs, metrics and verdicts.
        kind: What is wrong when it holds.
        action: What is done.
        when: Its condition.
        persist: Tokens for which it must hold at the acting level before it acts. Unit: tokens.
    """

    name: str
    kind: Kind
    action: Action
    when: Condition
    persist: int = 0


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers strictly between two bounds; None leaves a side open."""

    above: float | None = None
    below: float | None = None


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """
    The requests a policy is for. All that is given must hold; nothing given matches every request.

    Args:
        model: Globs of which one fits the model's name; empty for any model.
        route: Globs of which one fits the request's path; empty for any route.
        header: Header name in lower case, and a glob for its value.
        prompt_tokens: Size of the prompt. Unit: tokens.
        prompt_characters: Size of the prompt. Unit: characters.
    """

    model: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    header: tuple[tuple[str, str], ...] = ()
    prompt_tokens: Span | None = None
    prompt_characters: Span | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """
    A checked policy.

    Args:
        kind_attempts: Attempts in all after a verdict of these kinds, in place of `retry.max_attempts`.
        kind_changes: What a retry after a verdict of these kinds changes, in place of `retry.change`.
        confirm: How verdicts are confirmed by a re-scoring; None where they are not.
    """

    name: str
    rules: tuple[Rule, ...]
    version: int = 1
    description: str = ""
    match: Match = Match()
    hold_back: HoldBack = HoldBack()
    retry: Retry = Retry()
    kind_attempts: dict[Kind, int] = {}
    kind_changes: dict[Kind, tuple[Change, ...]] = {}
    when_exhausted: WhenExhausted = WhenExhausted.CUT
    confirm: Confirm | None = None

    def max_attempts(self, kind: Kind | None = None) -> int:
        """Attempts in all, the first included, after a verdict of this kind; None for a transport fault."""
        return self.retry.max_attempts if kind is None else self.kind_attempts.get(kind, self.retry.max_attempts)

    def changes(self, kind: Kind) -> tuple[Change, ...]:
        """What a retry after a verdict of this kind does differently."""
        return self.kind_changes.get(kind, self.retry.change)
