"""A policy in plain English."""

from __future__ import annotations

from guard.policy.schema import All, Any, Condition, HoldBack, HoldMode, Leaf, Match, Not, Policy
from guard.types import Action

#: Longest line of a rule that is not laid out in several, and of a part of one that is. Unit: characters.
LINE, PART = 240, 150
_ACTIONS = {
    Action.NOTE: "note it",
    Action.HOLD: "hold the text",
    Action.CUT: "cut the answer",
    Action.RETRY: "abort and retry",
}


def explain(policy: Policy) -> str:
    """An account of each setting and rule, one line each; of a rule with many parts, one line for each of them."""
    lines = [f"Policy {policy.name}" + (f": {policy.description}" if policy.description else "")]
    wanted = _match(policy.match)
    if wanted:
        lines.append(f"For requests with {wanted}.")
    lines.append(_hold_back(policy.hold_back))
    lines += _retry(policy)
    if policy.confirm is not None:
        lines.append(
            f"Before a verdict of {', '.join(policy.confirm.kinds)} is acted on, the answer is scored again on a clean"
            f" cache, for at most {policy.confirm.timeout:g} seconds; if the cache was right, text alone decides."
        )
    for rule in policy.rules:
        begun = f"{rule.name} ({rule.kind}): {_ACTIONS[rule.action]} when"
        first, *rest = _say_in_lines(rule.when, LINE - len(begun))
        lines += [f"{begun} {first}", *rest]
        if rule.persist:
            lines[-1] += ","
            lines += ["    "] if rest else []
            lines[-1] += f"{'' if rest else ' '}once this has held for {rule.persist} tokens"
        lines[-1] += "."
    return "\n".join(lines)


def _retry(policy: Policy) -> list[str]:
    kinds = {rule.kind for rule in policy.rules if rule.action is Action.RETRY}
    most = policy.retry.max_attempts
    if not kinds:
        return [f"No answer is retried for what it says; one lost on its way is tried at most {most} times in all."]
    changed = ", ".join(policy.retry.change) or "nothing"
    lines = [
        f"A bad answer is tried at most {most} times in all, changing {changed};"
        f" when none is left: {policy.when_exhausted}."
    ]
    if policy.hold_back.mode is not HoldMode.FULL:
        lines.append(
            f"Where more than {policy.retry.max_bad_shown} tokens of bad text were shown, nothing follows them:"
            f" {policy.when_exhausted}."
        )
    for kind, attempts in policy.kind_attempts.items():
        if kind in kinds:
            lines.append(f"After a verdict of {kind}: at most {attempts} in all.")
    for kind, changes in policy.kind_changes.items():
        if kind in kinds:
            lines.append(f"A retry after a verdict of {kind} changes {', '.join(changes)}.")
    return lines


def _match(match: Match) -> str:
    parts = [f"{name} {' or '.join(globs)}" for name, globs in (("model", match.model), ("path", match.route)) if globs]
    parts += [f"header {name}: {glob}" for name, glob in match.header]
    spans = (("tokens", match.prompt_tokens), ("characters", match.prompt_characters))
    for unit, span in spans:
        for word, bound in (("above", span.above), ("below", span.below)) if span is not None else ():
            if bound is not None:
                parts.append(f"a prompt {word} {bound:g} {unit}")
    return " and ".join(parts)


def _hold_back(hold: HoldBack) -> str:
    if hold.mode is HoldMode.OFF:
        return "No text is held back."
    if hold.mode is HoldMode.FULL:
        return "The whole answer is held back until it is complete."
    always = f"The latest {hold.window} tokens are always held; " if hold.mode is HoldMode.WINDOW else ""
    text = f"{always}from suspicion {hold.hold_at:g} on text waits, at most {hold.limit} tokens of it."
    return text[0].upper() + text[1:]


def _say_in_lines(condition: Condition, room: int) -> list[str]:
    """On one line where there is room, else each part on lines of its own, those inside it further in."""
    said = _say(condition)
    inner = (condition.part,) if isinstance(condition, Not) else () if isinstance(condition, Leaf) else condition.parts
    if len(said) <= room or not inner:
        return [said]
    if len(inner) == 1 and not isinstance(condition, Not):
        return _say_in_lines(inner[0], room)
    head = "not" if isinstance(condition, Not) else "all of" if isinstance(condition, All) else "any of"
    return [head, *(f"    {line}" for part in inner for line in _say_in_lines(part, PART))]


def _say(condition: Condition) -> str:
    if isinstance(condition, Leaf):
        return _say_leaf(condition)
    if isinstance(condition, Not):
        return f"not ({_say(condition.part)})"
    word = " and " if isinstance(condition, All) else " or "
    parts = [_say(part) for part in condition.parts]
    if len(parts) == 1:
        return parts[0]
    return word.join(
        f"({said})" if isinstance(part, All | Any) and len(part.parts) > 1 else said
        for part, said in zip(condition.parts, parts, strict=True)
    )


def _say_leaf(leaf: Leaf) -> str:
    after = f", after {leaf.after} tokens" if leaf.after else ""
    if leaf.step:
        return f"{leaf.signal} is {'above' if leaf.one > leaf.zero else 'below'} {leaf.zero:g}{after}"
    way = "rises" if leaf.one > leaf.zero else "falls"
    return f"{leaf.signal} {way} to {leaf.one:g} (suspicious from {leaf.zero:g}){after}"
