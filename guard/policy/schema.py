"""The typed policy, and the raw shape of the YAML it is read from."""

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
    """

    max_attempts: int = 3
    change: tuple[Change, ...] = (Change.CACHE, Change.SEED)


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


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A checked policy."""

    name: str
    rules: tuple[Rule, ...]
    version: int = 1
    description: str = ""
    hold_back: HoldBack = HoldBack()
    retry: Retry = Retry()
    when_exhausted: WhenExhausted = WhenExhausted.CUT


class ConditionSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A condition as written: one signal with a threshold, or one of all, any, not."""

    signal: str | None = None
    window: str | None = None
    above: float | None = None
    below: float | None = None
    start: float | None = msgspec.field(default=None, name="from")
    to: float | None = None
    after: str | None = None
    all: tuple[ConditionSource, ...] | None = None
    any: tuple[ConditionSource, ...] | None = None
    negated: ConditionSource | None = msgspec.field(default=None, name="not")


class RuleSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as written."""

    name: str
    kind: Kind
    action: Action
    when: ConditionSource
    persist: str | None = msgspec.field(default=None, name="for")


class HoldBackSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`hold_back` as written."""

    mode: HoldMode = HoldMode.SUSPICION
    hold_at: float = 0.5
    act_at: float = 1.0
    limit: str = "512 tokens"
    window: str = "0 tokens"


class RetrySource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`retry` as written."""

    max_attempts: int = 3
    change: tuple[Change, ...] = (Change.CACHE, Change.SEED)


class PolicySource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy file as written."""

    version: int
    name: str
    rules: tuple[RuleSource, ...]
    description: str = ""
    hold_back: HoldBackSource = HoldBackSource()
    retry: RetrySource = RetrySource()
    when_exhausted: WhenExhausted = WhenExhausted.CUT
