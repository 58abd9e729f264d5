"""YAML that remembers its lines."""

from __future__ import annotations

import pytest

from guard.errors import ConfigError
from guard.policy.document import MAX_SIZE, Document

TEXT = "a: 1\nb:\n  - x: yes\n  - [2, 3.5, null]\n"


def test_values_and_lines() -> None:
    document = Document(TEXT, "f")
    assert document.data == {"a": 1, "b": [{"x": True}, [2, 3.5, None]]}
    assert document.line("b[0].x") == 3
    assert document.line("b[1][1]") == 4
    assert document.line("b[0].missing") == 3


def test_dates_stay_text() -> None:
    assert Document("a: 2020-01-02", None).data == {"a": "2020-01-02"}


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c",
        "a: [",
        "x" * (MAX_SIZE + 1),
        "[" * 50 + "]" * 50,
        "a: !!python/name:os.system",
        "\x00",
        "--- 1\n--- 2",
    ],
)
def test_hostile_text_is_refused_and_nothing_else_escapes(text: str) -> None:
    with pytest.raises(ConfigError):
        Document(text, "f")
