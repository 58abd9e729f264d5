"""Documents remember lines; every refusal names its place."""

from __future__ import annotations

import msgspec
import pytest

from guard.errors import ConfigError
from guard.yamldoc import dotted, parse_document, to_struct


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    port: int = 1


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    items: list[Inner] = []


def refuse(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        to_struct(parse_document(text, "f.yaml"), Outer)
    return caught.value


def test_a_right_document_becomes_the_struct() -> None:
    assert to_struct(parse_document("name: a\nitems: [{port: 2}]"), Outer) == Outer("a", [Inner(2)])


def test_wrong_type_names_file_line_and_setting() -> None:
    error = refuse("name: a\nitems:\n  - port: 1\n  - port: many\n")
    assert str(error).startswith("f.yaml:4: items[1].port: expected `int`")


def test_unknown_setting_suggests_the_right_one() -> None:
    error = refuse("name: a\nitems:\n  - prot: 1\n")
    assert str(error) == "f.yaml:3: items[0].prot: unknown setting 'prot'; did you mean 'port'?"


def test_missing_setting_is_named() -> None:
    assert "name" in str(refuse("items: []\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nname: b\n", "f.yaml:2: 'name' is given twice"),
        ("a: [1\n", "not valid YAML"),
        ("name: !!python/object:os.system x\n", "not valid YAML"),
        ("--- 1\n--- 2\n", "not valid YAML"),
        ("", "found nothing"),
        ("- a\n", "found a list"),
        ("? [a]\n: 1\n", "a key must be a plain word"),
        ("name: \x00\n", "not valid YAML"),
    ],
)
def test_refusals(text: str, says: str) -> None:
    assert says in str(refuse(text))


def test_aliases_cannot_unfold_without_bound() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="unfolds"):
        parse_document("\n".join(levels))


def test_too_large_is_refused_before_parsing() -> None:
    with pytest.raises(ConfigError, match="larger than"):
        parse_document("a" * 1_000_001)


def test_dotted() -> None:
    assert dotted(("rules", 0, "when")) == "rules[0].when"
