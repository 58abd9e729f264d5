"""Every setting that can be written has its help, which ends up in the schema."""

from __future__ import annotations

import msgspec

from guard.policy.source import VERSION, PolicySource


def test_every_setting_is_described() -> None:
    shapes = msgspec.json.schema(PolicySource)["$defs"]
    silent = [
        f"{shape}.{name}"
        for shape, body in shapes.items()
        for name, setting in body.get("properties", {}).items()
        if not setting.get("description")
    ]
    assert silent == []


def test_only_version_and_name_must_be_given() -> None:
    source = msgspec.convert({"version": VERSION, "name": "t"}, PolicySource)
    assert source.rules == ()
    assert source.hold_back is msgspec.UNSET
