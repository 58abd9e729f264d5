"""A checked policy as it would be written: the plain mappings that the loader reads, nothing inherited."""

from __future__ import annotations

from typing import TypeAlias

from guard.policy.schema import All, Condition, HoldMode, Leaf, Match, Not, Policy, Rule, Span
from guard.types import Window

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain]"
Written: TypeAlias = dict[str, Plain]


def written(policy: Policy) -> Written:
    """
    The policy's source. Reading it gives an equal policy.

    Args:
        policy: Any checked policy.
    """
    hold = policy.hold_back
    held: Written = {
        "mode": hold.mode.value, "hold_at": hold.hold_at, "act_at": hold.act_at, "limit": f"{hold.limit} tokens",
    }  # fmt: skip
    if hold.mode is HoldMode.WINDOW:
        held["window"] = f"{hold.window} tokens"
    out: Written = {"version": policy.version, "name": policy.name}
    if policy.description:
        out["description"] = policy.description
    if policy.match != Match():
        out["match"] = _match(policy.match)
    out["hold_back"] = held
    out["retry"] = {
        "max_attempts": policy.retry.max_attempts,
        "change": [change.value for change in policy.retry.change],
        "max_bad_shown": f"{policy.retry.max_bad_shown} tokens",
    }
    out["when_exhausted"] = policy.when_exhausted.value
    kinds = _kinds(policy)
    if kinds:
        out["kinds"] = kinds
    out["rules"] = [written_rule(rule) for rule in policy.rules]
    return out


def _kinds(policy: Policy) -> Written:
    out: dict[str, Written] = {}
    for kind, most in policy.kind_attempts.items():
        out.setdefault(kind.value, {})["max_attempts"] = most
    for kind, changes in policy.kind_changes.items():
        out.setdefault(kind.value, {})["change"] = [change.value for change in changes]
    return dict(out)


def written_rule(rule: Rule) -> Written:
    """One rule's source."""
    out: Written = {"name": rule.name, "kind": rule.kind.value, "action": rule.action.value}
    if rule.persist:
        out["for"] = f"{rule.persist} tokens"
    out["when"] = _condition(rule.when)
    return out


def _condition(condition: Condition) -> Written:
    if isinstance(condition, Leaf):
        return _leaf(condition)
    if isinstance(condition, Not):
        return {"not": _condition(condition.part)}
    return {"all" if isinstance(condition, All) else "any": [_condition(part) for part in condition.parts]}


def _leaf(leaf: Leaf) -> Written:
    out: Written = {"signal": leaf.signal.name}
    if leaf.signal.window is not None:
        out["window"] = _window(leaf.signal.window)
    if leaf.step:
        out["above" if leaf.one > leaf.zero else "below"] = leaf.zero
    else:
        out |= {"from": leaf.zero, "to": leaf.one}
    if leaf.after:
        out["after"] = f"{leaf.after} tokens"
    return out


def _window(window: Window) -> str:
    return f"{window.size} {window.unit.value}"


def _match(match: Match) -> Written:
    out: Written = {}
    if match.model:
        out["model"] = list(match.model)
    if match.route:
        out["route"] = list(match.route)
    if match.header:
        out["header"] = dict(match.header)
    for name, span in (("prompt_tokens", match.prompt_tokens), ("prompt_characters", match.prompt_characters)):
        if span is not None:
            out[name] = _span(span)
    return out


def _span(span: Span) -> Written:
    bounds = {"above": span.above, "below": span.below}
    return {name: bound for name, bound in bounds.items() if bound is not None}
