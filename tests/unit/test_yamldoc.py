"""Documents remember lines; every refusal names its place."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest

from guard.errors import ConfigError
from guard.yamldoc import MAX_SIZE, Document, nearest, to_struct


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    port: int = 1


class Way(msgspec.Struct, forbid_unknown_fields=True):
    mode: Literal["up", "down"] = "up"


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    items: list[Inner] = []


def refuse(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        to_struct(Document(text, "f.yaml"), Outer)
    return caught.value


class Kinds(msgspec.Struct, forbid_unknown_fields=True):
    mode: Literal["fast", "slow"] = "fast"
    inner: Annotated[list[Way], msgspec.Meta(max_length=2)] | None = None
    ratio: float | None = None
    on: bool = True
    size: Annotated[int, msgspec.Meta(ge=1)] = 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mode: fats", "mode: 'fats' is not known here; did you mean 'fast'?"),
        ("inner: [{mode: up}, {mode: sideways}]", "inner[1].mode: 'sideways' is not known here; one of down, up"),
        ("ratio: much", "ratio: expected a number or nothing, got text"),
        ("on: maybe", "on: expected true or false, got text"),
        ("size: 0", "size: expected a whole number >= 1"),
        ("inner: 5", "inner: expected a list or nothing, got a whole number; settings of each item are mode"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words_and_with_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        to_struct(Document(text, "f.yaml"), Kinds)
    assert str(caught.value) == f"f.yaml:1: {says}"


def test_a_right_document_becomes_the_struct() -> None:
    assert to_struct(Document("name: a\nitems: [{port: 2}]", None), Outer) == Outer("a", [Inner(2)])


def test_wrong_type_names_file_line_and_setting() -> None:
    error = refuse("name: a\nitems:\n  - port: 1\n  - port: many\n")
    assert str(error) == "f.yaml:4: items[1].port: expected a whole number, got text"


def test_unknown_setting_suggests_the_right_one() -> None:
    error = refuse("name: a\nitems:\n  - prot: 1\n")
    assert str(error) == "f.yaml:3: items[0].prot: unknown setting 'prot'; did you mean 'port'?"


def test_a_setting_in_the_wrong_place_is_told_its_own() -> None:
    assert str(refuse("name: a\nport: 1\n")) == "f.yaml:2: port: unknown setting 'port'; did you mean 'items.port'?"


def test_missing_setting_is_named() -> None:
    assert str(refuse("items: []\n")) == "f.yaml:1: this must be given: 'name'"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nname: b\n", "f.yaml:2: name: 'name' is given twice"),
        ("a: [1\n", "not valid YAML"),
        ("name: !!python/object:os.system x\n", "not valid YAML"),
        ("--- 1\n--- 2\n", "not valid YAML"),
        ("", "found nothing"),
        ("- a\n", "found a list"),
        ("name: &a x\nitems: [*a]\n", "anchors are not followed"),
        ("name: \x00\n", "not valid YAML"),
        ("a: 1\nname: 2020-13-45\n", "f.yaml:2: name: not valid YAML: month"),
        (f"name: {'9' * 5000}\n", "f.yaml:1: name: not valid YAML"),
    ],
)
def test_refusals(text: str, says: str) -> None:
    assert says in str(refuse(text))


def test_nearest_lists_all_when_nothing_is_close() -> None:
    assert nearest("prot", ["port", "name"]) == "did you mean 'port'?"
    assert nearest("zzz", ["port", "name"]) == "one of name, port"


TEXT = "a: 1\nb:\n  - x: yes\n  - [2, 3.5, null]\n"


def test_values_and_lines() -> None:
    document = Document(TEXT, "f")
    assert document.data == {"a": 1, "b": [{"x": True}, [2, 3.5, None]]}
    assert document.line("b[0].x") == 3
    assert document.line("b[1][1]") == 4
    assert document.line("b[0].missing") == 3


def test_too_deep_names_the_line() -> None:
    deep = "\n".join("  " * depth + "a:" for depth in range(40))
    with pytest.raises(ConfigError, match="f:33: nested deeper than 32 levels"):
        Document(deep + " 1", "f")


def test_dates_stay_text() -> None:
    assert Document("a: 2020-01-02", None).data == {"a": "2020-01-02"}


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c",
        "a: [",
        "x" * (MAX_SIZE + 1),
        "[" * 50 + "]" * 50,
        "[" * 200_000,
        "{a: " * 60_000,
        "".join(" " * depth + "- \n" for depth in range(700)),
        "a: \ud800",
        "a: !!python/name:os.system",
        "\x00",
        "--- 1\n--- 2",
    ],
)
def test_hostile_text_is_refused_and_nothing_else_escapes(text: str) -> None:
    with pytest.raises(ConfigError):
        Document(text, "f")
