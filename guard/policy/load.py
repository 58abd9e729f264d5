"""From YAML text to a checked policy. Every complaint names file, line, setting and remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from guard.policy.conditions import ConditionBuilder
from guard.policy.schema import (
    ConditionSource,
    HoldBack,
    HoldBackSource,
    HoldMode,
    Policy,
    PolicySource,
    Retry,
    RetrySource,
    Rule,
    RuleSource,
)
from guard.policy.units import parse_tokens
from guard.types import Action, SignalSpec
from guard.yamldoc import Document, explain_invalid, nearest

#: Version of the policy language.
VERSION = 1
#: Most attempts a policy may ask for.
MAX_ATTEMPTS = 10
_DURATIONS = frozenset({"window", "limit", "for", "after"})


def load_policy(text: str, catalogue: Mapping[str, SignalSpec], path: str | None = None) -> Policy:
    """
    Read and check a policy.

    Args:
        text: YAML.
        catalogue: Signals that exist, by name.
        path: File it came from, for error messages.

    Returns:
        The policy, ready for a Judge.

    Raises:
        ConfigError: Anything at all is wrong with it.
    """
    document = Document(text, path)
    source = _convert(document)
    if source.version != VERSION:
        document.fail("version", f"version {source.version} is not known; this guard reads version {VERSION}")
    if not source.name.strip():
        document.fail("name", "a policy needs a name")
    if not source.rules:
        document.fail("rules", "a policy needs at least one rule")
    builder = ConditionBuilder(document, catalogue)
    rules = tuple(_rule(document, builder, rule, f"rules[{index}]") for index, rule in enumerate(source.rules))
    _refuse_duplicates(document, rules)
    return Policy(
        name=source.name,
        description=source.description,
        version=source.version,
        hold_back=_hold_back(document, source.hold_back),
        retry=_retry(document, source.retry, rules),
        when_exhausted=source.when_exhausted,
        rules=rules,
    )


def _convert(document: Document) -> PolicySource:
    if not isinstance(document.data, dict):
        document.fail("", "a policy is a mapping with version, name and rules")
    hold = document.data.get("hold_back")
    if isinstance(hold, dict) and hold.get("mode") is False:
        hold["mode"] = HoldMode.OFF.value  # YAML reads a bare off as a truth value
    try:
        return msgspec.convert(document.data, PolicySource)
    except msgspec.ValidationError as error:
        where, text, unknown = explain_invalid(error)
        if unknown:
            hint = nearest(unknown, _fields_at(where))
            raise document.error(f"{where}.{unknown}".lstrip("."), f"unknown setting {unknown!r}; {hint}") from None
        last = where.rsplit(".", 1)[-1]
        if last in _DURATIONS and "`str" in text:
            text = "a bare number has no unit; write for instance '48 tokens'"
        elif "Invalid enum value" in text:
            text = _enum_hint(text, where)
        raise document.error(where, text) from None


def _fields_at(where: str) -> list[str]:
    shape: type[msgspec.Struct]
    if not where:
        shape = PolicySource
    elif where == "hold_back":
        shape = HoldBackSource
    elif where == "retry":
        shape = RetrySource
    else:
        shape = RuleSource if re.fullmatch(r"rules\[[^]]*\]", where) else ConditionSource
    return [field.encode_name for field in msgspec.structs.fields(shape)]


def _enum_hint(text: str, where: str) -> str:
    wrong = text.rsplit("'", 2)
    last = re.sub(r"\[.*", "", where.rsplit(".", 1)[-1])
    for shape in (RuleSource, HoldBackSource, RetrySource, PolicySource):
        for field in msgspec.structs.fields(shape):
            if field.encode_name == last:
                info = msgspec.json.schema(field.type)
                values = [v for part in _enums(info) for v in part]
                if len(wrong) > 1 and values:
                    return f"{wrong[1]!r} is not known here; {nearest(wrong[1], values)}"
    return text


def _enums(schema: object) -> list[list[str]]:
    if isinstance(schema, dict):
        own = [schema["enum"]] if "enum" in schema else []
        return own + [found for value in schema.values() for found in _enums(value)]
    if isinstance(schema, list):
        return [found for value in schema for found in _enums(value)]
    return []


def _rule(document: Document, builder: ConditionBuilder, source: RuleSource, where: str) -> Rule:
    if not source.name.strip():
        document.fail(f"{where}.name", "a rule needs a name")
    if source.action is Action.PASS:
        document.fail(f"{where}.action", "a rule that does nothing is no rule; 'note' only records")
    persist = 0
    if source.persist is not None:
        persist = _read(document, f"{where}.for", parse_tokens, source.persist)
    return Rule(
        name=source.name,
        kind=source.kind,
        action=source.action,
        when=builder.build(source.when, f"{where}.when"),
        persist=persist,
    )


def _refuse_duplicates(document: Document, rules: tuple[Rule, ...]) -> None:
    for index, rule in enumerate(rules):
        for earlier in rules[:index]:
            if earlier.name == rule.name:
                document.fail(f"rules[{index}].name", f"the name {rule.name!r} is already used by a rule above")
            if earlier.when == rule.when and earlier.persist <= rule.persist:
                document.fail(
                    f"rules[{index}].when",
                    f"never decides: rule {earlier.name!r} above has the same condition and acts no later",
                )


def _hold_back(document: Document, source: HoldBackSource) -> HoldBack:
    limit = _read(document, "hold_back.limit", parse_tokens, source.limit)
    window = _read(document, "hold_back.window", parse_tokens, source.window)
    if not 0.0 < source.hold_at <= 1.0:
        document.fail("hold_back.hold_at", f"{source.hold_at:g} is outside (0, 1]")
    if not source.hold_at <= source.act_at <= 1.0:
        document.fail("hold_back.act_at", f"{source.act_at:g} must lie between hold_at ({source.hold_at:g}) and 1")
    if source.mode is HoldMode.WINDOW and window == 0:
        document.fail("hold_back.window", "mode 'window' needs a window, for instance '48 tokens'")
    if source.mode is not HoldMode.WINDOW and window != 0:
        document.fail("hold_back.window", f"mode {source.mode.value!r} uses no window; write mode: window")
    if limit < max(1, window):
        document.fail("hold_back.limit", f"must be at least 1 token and no less than the window ({window})")
    return HoldBack(mode=source.mode, hold_at=source.hold_at, act_at=source.act_at, limit=limit, window=window)


def _retry(document: Document, source: RetrySource, rules: tuple[Rule, ...]) -> Retry:
    if not 1 <= source.max_attempts <= MAX_ATTEMPTS:
        document.fail("retry.max_attempts", f"{source.max_attempts} is outside 1 to {MAX_ATTEMPTS}")
    retries = any(rule.action is Action.RETRY for rule in rules)
    if retries and source.max_attempts > 1 and not source.change:
        document.fail("retry.change", "a retry that changes nothing repeats the fault; name cache, seed or temperature")
    if len(set(source.change)) != len(source.change):
        document.fail("retry.change", "a change is listed twice")
    return Retry(max_attempts=source.max_attempts, change=source.change)


def _read(document: Document, where: str, parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise document.error(where, str(error)) from None
