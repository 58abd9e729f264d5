"""What is wrong with a value of a YAML file, in the words of its writer and with what would be right."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import yaml

_PLACE = re.compile(r" - at `(?:key in )?\$\.?(?P<where>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_TYPES = re.compile(r"`(?P<names>\w+(?: \| \w+)*)`")
_PLAIN_WORDS = {
    "null": "nothing",
    "object": "a mapping",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}
#: A number in a text: in per cent, with an exponent, in the unit that is meant anyway. Not 8k, which is 8000.
_NUMBER = re.compile(
    r"(?P<number>[+-]?(?:\d++(?:\.\d*+)?|\.\d++))(?P<power>[eE][+-]?\d{1,2})?"
    r"\s*+(?P<unit>%|s|sec|seconds?|tokens?|steps?|characters?)?"
)
#: The same with another unit, or a k for thousands: nobody knows here what would be right.
_WITH_UNIT = re.compile(r"\A[+-]?\d[\d.]*+\s*+[A-Za-z]+")
_NAME = re.compile(r"[\w-]+")
_PATTERN = re.compile(r"Expected `str` matching regex '(?P<pattern>.*)'")
#: What settings must look like that have a pattern, by the pattern.
FORMS = {
    "^https?://": "a URL, such as http://10.0.0.5:4318",
    "^/": "a path, such as /health",
    "^/[^?#]*$": "a path without ? and #, such as /v1/models",
    "^[0-9a-f]{64}$": "64 hexadecimal digits in lower case, as `guard key` prints them",
    "^[A-Za-z0-9._-]+$": "letters, digits, dots, dashes and underscores alone",
}


def explain_invalid(error: msgspec.ValidationError) -> tuple[str, str, str]:
    """
    Take msgspec's message apart.

    Returns:
        Dotted path, what is wrong, and the unknown field's name (empty if it is about another thing).
    """
    message = str(error)
    place = _PLACE.search(message)
    text = _PLACE.sub("", message)
    unknown = _UNKNOWN.match(text)
    return (place["where"] if place else "", text, unknown["field"] if unknown else "")


def plain_words(text: str, value: object = None, settings: Sequence[str] = ()) -> str:
    """
    What msgspec says is wrong, in the words of a configuration, not of Python.

    Args:
        text: From `explain_invalid`.
        value: What stands there, as YAML read it.
        settings: Names of the settings that may stand there, or in each item of what stands there.
    """
    if form := _PATTERN.fullmatch(text):
        return f"expected {FORMS[form['pattern']]}" if form["pattern"] in FORMS else text
    if missing := _MISSING.fullmatch(text):
        return f"this must be given: {missing['field']!r}"
    names = _TYPES.sub(lambda m: " or ".join(_PLAIN_WORDS.get(n, f"`{n}`") for n in m["names"].split(" | ")), text)
    return names[:1].lower() + names[1:] + _remedy(text, value, settings)


def _remedy(text: str, value: object, settings: Sequence[str]) -> str:
    """How a value of another type is written as the type that is expected, where it can be; begins with a semicolon."""
    expected = _TYPES.search(text)
    wanted = expected["names"].split(" | ") if expected is not None else []
    if settings and "str" not in wanted and {"object", "array"} & set(wanted):
        return f"; {'its settings' if 'object' in wanted else 'settings of each item'} are {', '.join(settings)}"
    if "str" in wanted and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if not isinstance(value, str):
        return ""
    if "array" in wanted and _NAME.fullmatch(value):
        return f"; write [{value}]"
    number = _NUMBER.fullmatch(value.strip())
    if not {"int", "float"} & set(wanted):
        return ""
    if number is None:
        return "; write a number without a unit" if _WITH_UNIT.fullmatch(value.strip()) else ""
    if number["unit"] == "%":
        return f"; write {float(number['number']) / 100:g}"
    if number["power"]:  # which YAML takes for text where there is no point in it
        return f"; write {float(number['number'] + number['power']):.15g}"
    return f"; write {number['number']} without {'a unit' if number['unit'] else 'quotes'}"


def broken_yaml(error: Exception) -> tuple[str, int | None]:
    """
    What a parser has to say, and the line where it says so.

    A quote or bracket that is never closed is found at the end of the file only: where it was opened is told too.
    """
    mark, begun = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    context = getattr(error, "context", None) if isinstance(error, yaml.MarkedYAMLError) else None
    line = mark.line + 1 if mark is not None else None
    if context and begun is not None and begun.line + 1 != line:
        context += f" that begins in line {begun.line + 1}"
    if "\\t" in problem:
        problem += "; indent with spaces"
    return f"{context}, {problem}" if context else problem, line
