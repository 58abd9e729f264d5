"""The JSON Schema of a policy file, for editors: names are completed, mistakes underlined."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from guard.policy.source import MAX_ATTEMPTS, VERSION, PolicySource
from guard.types import Action, Kind, SignalSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(catalogue: Mapping[str, SignalSpec]) -> dict[str, Any]:
    """
    The schema.

    It accepts every policy that the loader accepts; what needs more than one setting to see (levels out
    of order, rules that can never act) only the loader refuses.

    Args:
        catalogue: Signals that exist, by name.
    """
    raw = msgspec.json.schema(PolicySource)
    shapes: dict[str, Any] = {name: _strict(shape) for name, shape in raw["$defs"].items()}
    shapes["Action"]["enum"] = [action.value for action in Action if action is not Action.PASS]
    condition = shapes["ConditionSource"]
    condition["properties"]["signal"]["oneOf"] = [_signal(spec) for spec in catalogue.values()]
    condition["oneOf"] = [{"required": [form]} for form in ("signal", "all", "any", "not")]
    for name in ("all", "any"):
        condition["properties"][name]["minItems"] = 1
    policy = shapes.pop("PolicySource")
    policy["properties"]["version"]["const"] = VERSION
    policy["properties"]["kinds"]["propertyNames"] = {"enum": [kind.value for kind in Kind]}
    policy["anyOf"] = [{"required": ["rules"]}, {"required": ["extends"]}]
    for name in ("RetrySource", "KindSource"):
        shapes[name]["properties"]["max_attempts"] |= {"minimum": 1, "maximum": MAX_ATTEMPTS}
    levels = shapes["HoldBackSource"]["properties"]
    for name in ("hold_at", "act_at"):
        levels[name] |= {"exclusiveMinimum": 0, "maximum": 1}
    return {"$schema": DIALECT, **policy, "title": "Guard policy", "$defs": dict(sorted(shapes.items()))}


def schema_text(catalogue: Mapping[str, SignalSpec]) -> str:
    """The schema as it is committed beside the policies."""
    return json.dumps(json_schema(catalogue), indent=2, ensure_ascii=False) + "\n"


def _signal(spec: SignalSpec) -> dict[str, Any]:
    high = "up" if math.isinf(spec.high) else f"to {spec.high:g}"
    windows = ", ".join(spec.window_units) or "takes none"
    return {"const": spec.name, "description": f"{spec.help} Range: {spec.low:g} {high}. Window: {windows}."}


def _strict(shape: dict[str, Any]) -> dict[str, Any]:
    """Without the nulls and empty requirements that msgspec writes for settings that may be left out."""
    out: dict[str, Any] = {}
    for key, value in shape.items():
        if (key, value) in (("default", None), ("required", [])):
            continue
        if isinstance(value, list | tuple):
            out[key] = [_strict(part) if isinstance(part, dict) else part for part in value]
        else:
            out[key] = _strict(value) if isinstance(value, dict) else value
    choices = [part for part in out.get("anyOf", []) if part != {"type": "null"}]
    if len(choices) == 1:
        del out["anyOf"]
        out |= choices[0]
    return out
