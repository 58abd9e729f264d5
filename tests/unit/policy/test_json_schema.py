"""The schema for editors: as strict as the loader, and with the names that exist."""

from __future__ import annotations

import json
from typing import Any

from guard.policy.json_schema import json_schema, schema_text
from guard.types import SignalSpec, Unit

CATALOGUE = {"noise": SignalSpec("noise", 0, 1, "share", (Unit.CHARACTERS,), False, "How loud.")}
SCHEMA = json_schema(CATALOGUE)


def inside(shape: object) -> list[dict[str, Any]]:
    if isinstance(shape, dict):
        return [shape, *(found for value in shape.values() for found in inside(value))]
    return [found for value in shape for found in inside(value)] if isinstance(shape, list) else []


def test_unknown_settings_are_mistakes_everywhere() -> None:
    shapes = [SCHEMA, *SCHEMA["$defs"].values()]
    assert all(shape["additionalProperties"] is False for shape in shapes if shape.get("type") == "object")


def test_a_setting_left_out_is_not_a_null() -> None:
    assert not any(part.get("type") == "null" for part in inside(SCHEMA))
    assert not any(part.get("default", ...) is None for part in inside(SCHEMA))


def test_the_signals_are_those_of_the_catalogue() -> None:
    signal = SCHEMA["$defs"]["ConditionSource"]["properties"]["signal"]
    assert signal["oneOf"] == [{"const": "noise", "description": "How loud. Range: 0 to 1. Window: characters."}]


def test_passing_is_no_action_of_a_rule() -> None:
    assert SCHEMA["$defs"]["Action"]["enum"] == ["hold", "note", "cut", "retry"]


def test_every_reference_leads_somewhere() -> None:
    references = {part["$ref"] for part in inside(SCHEMA) if "$ref" in part}
    assert {f"#/$defs/{name}" for name in SCHEMA["$defs"]} == references


def test_the_text_is_json_and_ends_in_a_line_end() -> None:
    text = schema_text(CATALOGUE)
    assert json.loads(text) == SCHEMA
    assert text.endswith("}\n")
