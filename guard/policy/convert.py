"""From a YAML document to the source shape, with complaints a person can act on."""

from __future__ import annotations

import re

import msgspec

from guard.policy.schema import HoldMode
from guard.policy.source import KindSource, PolicySource
from guard.types import Action, Kind
from guard.yamldoc import Document, Plain, choices_at, fields_at, nearest, not_known
from guard.yamlwords import explain_invalid, plain_words

_DURATIONS = frozenset({"window", "limit", "for", "after"})
_KINDS = [kind.value for kind in Kind]


def convert(document: Document) -> PolicySource:
    """
    The document as a policy as written.

    Raises:
        ConfigError: Wrong type or name somewhere, or a setting without a value.
    """
    if not isinstance(document.data, dict):
        empty = "the file is empty; " if document.data is None else ""
        document.fail("", f"{empty}a policy is a mapping with version, name and rules")
    hold = document.data.get("hold_back")
    if isinstance(hold, dict) and hold.get("mode") is False:
        hold["mode"] = HoldMode.OFF.value  # YAML reads a bare off as a truth value
    _refuse_empty(document, document.data, "")
    kinds = document.data.get("kinds")
    for name in kinds if isinstance(kinds, dict) else ():
        if name not in _KINDS:
            document.fail(f"kinds.{name}", f"{name!r} is no kind; {nearest(name, _KINDS)}")
    try:
        return msgspec.convert(document.data, PolicySource)
    except msgspec.ValidationError as error:
        where, text, unknown = explain_invalid(error)
        if where.startswith("kinds[") and isinstance(kinds, dict):
            where = f"kinds.{_wrong_kind(kinds)}{where.partition(']')[2]}"
        if where == "match.header[...]":
            where = f"match.header.{_wrong_header(document)}"
        steps = re.findall(r"[^.\[\]]+", where)
        if unknown:
            hint = nearest(unknown, fields_at(PolicySource, steps))
            raise document.error(f"{where}.{unknown}".lstrip("."), f"unknown setting {unknown!r}; {hint}") from None
        last = where.rsplit(".", 1)[-1]
        value = document.value(where)
        if last in _DURATIONS and "`str" in text:
            raise document.error(where, "a bare number has no unit; write for instance '48 tokens'") from None
        if ("Invalid enum value" in text or isinstance(value, bool)) and (choices := _choices_at(steps)):
            text = not_known(value, choices)
        raise document.error(where, plain_words(text, value, fields_at(PolicySource, steps))) from None


def _choices_at(steps: list[str]) -> list[str]:
    """The names that a setting may have: `pass` is none for an action, a rule that does nothing is no rule."""
    choices = choices_at(PolicySource, steps)
    return [name for name in choices if name != Action.PASS] if steps[-1].startswith("action") else choices


def _refuse_empty(document: Document, data: Plain, where: str) -> None:
    if data is None:
        document.fail(where, "has no value; give one, or leave the setting out")
    if isinstance(data, dict):
        for key, value in data.items():
            _refuse_empty(document, value, f"{where}.{key}" if where else key)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            _refuse_empty(document, value, f"{where}[{index}]")


def _wrong_header(document: Document) -> str:
    """Which header has a value that is no text; msgspec does not say."""
    headers = document.value("match.header")
    return (
        next((name for name, glob in headers.items() if not isinstance(glob, str)), "")
        if isinstance(headers, dict)
        else ""
    )


def _wrong_kind(kinds: dict[str, Plain]) -> str:
    """Which entry msgspec complains about; it does not say."""
    for name, settings in kinds.items():
        try:
            msgspec.convert(settings, KindSource)
        except msgspec.ValidationError:
            return name
    return ""
