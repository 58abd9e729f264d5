"""A value that is wrong is told of with what would be right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from guard.config import Config
from guard.errors import ConfigError
from guard.types import Action, Kind
from guard.yamldoc import Document, to_struct
from guard.yamlwords import FORMS


class Place(msgspec.Struct, forbid_unknown_fields=True):
    host: str = ""
    path: Annotated[str, msgspec.Meta(pattern="^/")] = "/"


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    where: Place | None = None
    places: list[Place] = []
    name: str = ""
    share: float | None = None
    size: int = 1
    action: Action | None = None
    kinds: tuple[Kind, ...] = ()
    parts: list[str] = []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: no", "name: expected text, got true or false; put it in quotes"),
        ("name: 7", "name: expected text, got a whole number; put it in quotes"),
        ("parts: [a, 1.5]", "parts[1]: expected text, got a number; put it in quotes"),
        ("share: 10%", "share: expected a number or nothing, got text; write 0.1"),
        ("share: 2.5 %", "share: expected a number or nothing, got text; write 0.025"),
        ("share: '0.5'", "share: expected a number or nothing, got text; write 0.5 without quotes"),
        ("size: 5s", "size: expected a whole number, got text; write 5 without a unit"),
        ("size: 5 tokens", "size: expected a whole number, got text; write 5 without a unit"),
        ("size: 8k", "size: expected a whole number, got text; write a number without a unit"),
        ("share: 5 minutes", "share: expected a number or nothing, got text; write a number without a unit"),
        ("where: 5", "where: expected a mapping or nothing, got a whole number; its settings are host, path"),
        ("places: 5", "places: expected a list, got a whole number; settings of each item are host, path"),
        ("places: [{path: health}]", "places[0].path: expected a path, such as /health"),
        ("share: 1e3", "share: expected a number or nothing, got text; write 1000"),
        ("share: 2e-3", "share: expected a number or nothing, got text; write 0.002"),
        ("kinds: garbled", "kinds: expected a list, got text; write [garbled]"),
        ("parts: 'a, b'", "parts: expected a list, got text"),
        ("size: many", "size: expected a whole number, got text"),
        ("size: [1]", "size: expected a whole number, got a list"),
        ("action: retyr", "action: 'retyr' is not known here; did you mean 'retry'?"),
        ("action: off", "action: false is not known here; one of cut, hold, note, pass, retry"),
        ("kinds: [garbled, rare]", "kinds[1]: 'rare' is not known here; did you mean 'rare_chars'?"),
    ],
)
def test_the_remedy_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        to_struct(Document(text, "f.yaml"), Settings)
    assert str(caught.value) == f"f.yaml:1: {says}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'a: 1\nname: "b\nsize: 3\n',
            "f.yaml:4: not valid YAML: while scanning a quoted scalar that begins in line 2, found unexpected end of"
            " stream",
        ),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML: expected a single document in the stream"),
        ("a:\n\t- b\n", r"found character '\t' that cannot start any token; indent with spaces"),
    ],
)
def test_what_is_never_closed_is_told_with_the_line_in_which_it_begins(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Document(text, "f.yaml")
    assert says in str(caught.value)


def test_an_empty_file_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found nothing: the file is empty"):
        to_struct(Document("# nothing\n", str(tmp_path / "a.yaml")), Settings)


def test_a_form_is_told_in_words_and_not_as_a_pattern() -> None:
    schema = msgspec.json.encode(msgspec.json.schema(Config)).decode()
    assert set(re.findall(r'"pattern":"([^"]*)"', schema)) == set(FORMS)
