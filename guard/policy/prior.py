"""
The same rules for one that is suspect already: less evidence is enough where the prior odds are higher.

A rule scores how far its readings have come from `from` to `to`. On a replica that was always good all of the way is
asked; on one that the fleet already knows to garble, a part of it makes the same verdict as likely to be right.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from guard.policy.schema import All, Any, Condition, Leaf, Not, Policy
from guard.types import Action


def sharpened(policy: Policy, evidence: float, kinds: Collection[str]) -> Policy:
    """
    A policy's rules that retry, scoring 1 where they scored `evidence` before.

    Args:
        policy: A checked policy; its other settings stay.
        evidence: Part of the way that is enough. In (0, 1].
        kinds: Of verdicts whose rules are kept; all others are left out.

    Raises:
        ValueError: `evidence` is not in (0, 1].
    """
    if not 0.0 < evidence <= 1.0:
        raise ValueError(f"evidence of {evidence} is no share")
    rules = tuple(
        msgspec.structs.replace(rule, when=_sooner(rule.when, evidence))
        for rule in policy.rules
        if rule.action is Action.RETRY and rule.kind in kinds
    )
    return msgspec.structs.replace(policy, rules=rules)


def _sooner(condition: Condition, evidence: float) -> Condition:
    """The condition with score s made min(1, s / evidence)."""
    if isinstance(condition, Leaf):
        if condition.step:
            return condition
        one = condition.zero + evidence * (condition.one - condition.zero)
        return msgspec.structs.replace(condition, one=one)
    if isinstance(condition, Not):
        return Not(_later(condition.part, evidence))
    parts = tuple(_sooner(part, evidence) for part in condition.parts)
    return All(parts) if isinstance(condition, All) else Any(parts)


def _later(condition: Condition, evidence: float) -> Condition:
    """Inside a `not`: the condition with score s made max(0, 1 - (1 - s) / evidence)."""
    if isinstance(condition, Leaf):
        if condition.step:
            return condition
        zero = condition.one - evidence * (condition.one - condition.zero)
        return msgspec.structs.replace(condition, zero=zero)
    if isinstance(condition, Not):
        return Not(_sooner(condition.part, evidence))
    parts = tuple(_later(part, evidence) for part in condition.parts)
    return All(parts) if isinstance(condition, All) else Any(parts)
