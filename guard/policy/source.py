"""
The shape of a policy in YAML: what `guard policy schema` prints, and what the loader starts from.

Every default here is UNSET where a policy may inherit the setting. Help for each setting stands beside it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from guard.policy.schema import HoldMode
from guard.types import Action, Change, Kind, WhenExhausted

#: Version of the policy language.
VERSION = 1
#: Most attempts a policy may ask for.
MAX_ATTEMPTS = 10

#: A whole number and a unit; also in units.py, which says what is wrong with a bad one.
_TOKENS = r"^\s*\d{1,9}\s+tokens?\s*$"
_WINDOW = r"^\s*\d{1,9}\s+(tokens?|steps?|characters?)\s*$"


def _help(text: str, *examples: object, pattern: str | None = None) -> Meta:
    extra = {"pattern": pattern} if pattern else {}
    return Meta(description=text, examples=list(examples) or None, extra_json_schema=extra)


class ConditionSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A condition: one signal with a threshold, or one of all, any, not."""

    signal: Annotated[str | None, _help("The signal that is read; README.md lists them.")] = None
    window: Annotated[
        str | None, _help("How much of the latest text or steps is read.", "32 tokens", pattern=_WINDOW)
    ] = None
    above: Annotated[float | None, _help("Scores 1 above this reading, 0 at it and below.")] = None
    below: Annotated[float | None, _help("Scores 1 below this reading, 0 at it and above.")] = None
    start: Annotated[float | None, _help("Scores 0 here, and 1 at `to`; in between in proportion.")] = msgspec.field(
        default=None, name="from"
    )
    to: Annotated[float | None, _help("Scores 1 here; smaller than `from` where low readings are bad.")] = None
    after: Annotated[str | None, _help("Scores 0 until so many tokens.", "128 tokens", pattern=_TOKENS)] = None
    all: Annotated[tuple[ConditionSource, ...] | None, _help("Scores the least of these.")] = None
    any: Annotated[tuple[ConditionSource, ...] | None, _help("Scores the greatest of these.")] = None
    negated: Annotated[ConditionSource | None, _help("Scores 1 minus this; 0 while a reading is unknown.")] = (
        msgspec.field(default=None, name="not")
    )


class RuleSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule."""

    name: Annotated[str, _help("Shown in logs, metrics and verdicts; unique in the policy.")]
    kind: Annotated[Kind, _help("What is wrong with the answer when it holds.")]
    action: Annotated[Action, _help("What is then done.")]
    when: Annotated[ConditionSource, _help("The condition.")]
    persist: Annotated[str | None, _help("It must hold this long before it acts.", "16 tokens", pattern=_TOKENS)] = (
        msgspec.field(default=None, name="for")
    )


class HoldBackSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When text waits before it goes to the client."""

    mode: Annotated[HoldMode, _help("Under suspicion; always the latest `window` tokens; the whole answer; never.")] = (
        HoldMode.SUSPICION
    )
    hold_at: Annotated[float, _help("Suspicion from which nothing is released.")] = 0.5
    act_at: Annotated[float, _help("Score at which a rule's action is taken.")] = 1.0
    limit: Annotated[str, _help("Most that is ever held; the oldest goes.", "512 tokens", pattern=_TOKENS)] = (
        "512 tokens"
    )
    window: Annotated[str, _help("Always held; only for mode window.", "48 tokens", pattern=_TOKENS)] = "0 tokens"


class RetrySource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a bad answer is tried again."""

    max_attempts: Annotated[int, _help("Attempts in all, the first included.")] = 3
    change: Annotated[tuple[Change, ...], _help("What each further attempt does differently.")] = (
        Change.CACHE, Change.SEED,
    )  # fmt: skip
    max_bad_shown: Annotated[
        str,
        _help(
            "Most text after the onset that a client may have and still get the continuation; beyond it,"
            " when_exhausted decides.", "96 tokens", pattern=_TOKENS,
        ),
    ] = "96 tokens"  # fmt: skip


class ConfirmSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Have the cache checked by a clean recomputation before a verdict is acted on (vLLM only)."""

    kinds: Annotated[
        tuple[Kind, ...], _help("Verdicts that wait for it: all, unless named; none for an empty list.", ["garbled"])
    ] = tuple(Kind)
    timeout: Annotated[float, _help("Longest that the held text waits for it, in seconds.", 5.0)] = 5.0
    max_prefill: Annotated[
        str, _help("Longer prompts and answers are not scored again.", "16384 tokens", pattern=_TOKENS)
    ] = "16384 tokens"
    prefill_per_second: Annotated[
        str, _help("Budget of all confirmations of a process, in each second.", "4000 tokens", pattern=_TOKENS)
    ] = "4000 tokens"


class SpanSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Strictly between two bounds; either may be left out."""

    above: Annotated[float | None, _help("More than this.")] = None
    below: Annotated[float | None, _help("Less than this.")] = None


class MatchSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The requests a policy is for; all that is given must hold."""

    model: Annotated[str | tuple[str, ...] | UnsetType, _help("Glob, or globs of which one fits.", "qwen*")] = UNSET
    route: Annotated[
        str | tuple[str, ...] | UnsetType, _help("Path of the request; globs too.", "/v1/chat/completions")
    ] = UNSET
    header: Annotated[dict[str, str] | UnsetType, _help("Header names, each with a glob for its value.")] = UNSET
    prompt_tokens: Annotated[
        SpanSource | UnsetType, _help("Size of the prompt in tokens; where not known, its characters by four.")
    ] = UNSET
    prompt_characters: Annotated[SpanSource | UnsetType, _help("Size of the prompt in characters.")] = UNSET


class KindSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings for one kind of verdict."""

    action: Annotated[
        Action | UnsetType, _help("Takes the place of the action of rules of this kind that retry or cut.")
    ] = UNSET
    max_attempts: Annotated[int | UnsetType, _help("Takes the place of retry.max_attempts.")] = UNSET
    change: Annotated[tuple[Change, ...] | UnsetType, _help("Takes the place of retry.change.")] = UNSET


class PolicySource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an answer counts as bad, and what is then done."""

    version: Annotated[int, _help(f"Version of the policy language: {VERSION}.", VERSION)]
    name: Annotated[str, _help("Shown in logs, metrics and response headers.")]
    description: Annotated[str, _help("One sentence for people.")] = ""
    extends: Annotated[
        str | UnsetType, _help("Policy to start from: a shipped one by name, or a file beside this one.", "default")
    ] = UNSET
    disable: Annotated[tuple[str, ...], _help("Inherited rules that are left out.")] = ()
    match: Annotated[MatchSource | UnsetType, _help("The requests it is for; all if left out. Not inherited.")] = UNSET
    hold_back: Annotated[HoldBackSource | UnsetType, _help("When text waits.")] = UNSET
    retry: Annotated[RetrySource | UnsetType, _help("How a bad answer is tried again.")] = UNSET
    when_exhausted: Annotated[WhenExhausted | UnsetType, _help("What becomes of a bad last attempt.")] = UNSET
    confirm: Annotated[
        ConfirmSource | UnsetType,
        _help("Check the cache by a clean recomputation before acting; not done if left out."),
    ] = UNSET
    kinds: Annotated[dict[Kind, KindSource] | UnsetType, _help("Settings for single kinds of verdict.")] = UNSET
    action_override: Annotated[
        Action | UnsetType,
        _help("Takes the place of every rule's action but `hold`, inherited ones included.", "note"),
    ] = UNSET
    rules: Annotated[tuple[RuleSource, ...], _help("Own rules; one named like an inherited rule replaces it.")] = ()
