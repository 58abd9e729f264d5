"""A policy with other thresholds: what a "what if" tries."""

from __future__ import annotations

import copy
import math
from typing import Literal

import msgspec

from guard.errors import ConfigError
from guard.policy.written import Written

#: Most edits of one try.
MOST_EDITS = 200


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One number of a policy, changed.

    Args:
        rule: Name of the rule; empty for the hold-back levels.
        leaf: Which of the rule's conditions on signals, in the order they are written, from 0.
        field: What of it.
        value: The new number.
    """

    field: Literal["from", "to", "above", "below", "hold_at", "act_at"]
    value: float
    rule: str = ""
    leaf: int = 0


def edited(source: Written, edits: list[Edit]) -> Written:
    """
    A policy's source with other numbers.

    Args:
        source: From `written`; left as it is.
        edits: The changes.

    Raises:
        ConfigError: There is no such rule, condition or threshold.
    """
    if len(edits) > MOST_EDITS:
        raise ConfigError(f"at most {MOST_EDITS} thresholds can be edited at once")
    out = copy.deepcopy(source)
    for edit in edits:
        if not math.isfinite(edit.value):
            raise ConfigError(f"{edit.value} is no number", where=f"{edit.rule}.{edit.field}")
        holder = _leaf(out, edit) if edit.rule else out["hold_back"]
        if not isinstance(holder, dict) or edit.field not in holder:
            raise ConfigError(f"there is no {edit.field!r} to edit", where=edit.rule or "hold_back")
        holder[edit.field] = edit.value
    return out


def _leaf(source: Written, edit: Edit) -> object:
    rules = source["rules"]
    assert isinstance(rules, list)
    rule = next((rule for rule in rules if isinstance(rule, dict) and rule["name"] == edit.rule), None)
    if rule is None:
        raise ConfigError(f"the policy has no rule {edit.rule!r}", where=edit.rule)
    found = leaves(rule["when"])
    if not 0 <= edit.leaf < len(found):
        raise ConfigError(f"rule {edit.rule!r} has {len(found)} conditions; there is no number {edit.leaf}")
    return found[edit.leaf]


def leaves(condition: object) -> list[object]:
    """All conditions on signals inside a written condition, in order."""
    if not isinstance(condition, dict):
        return []
    if "signal" in condition:
        return [condition]
    parts = condition.get("all") or condition.get("any") or [condition.get("not")]
    return [leaf for part in parts for leaf in leaves(part)]
