"""`guard key`: the key and the line that lets it in."""

from __future__ import annotations

from hashlib import sha256

import pytest

from guard.cli import main
from guard.lab.key_command import new_key


def test_the_line_is_the_hash_of_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "team-a"]) == 0
    shown = capsys.readouterr()
    key = shown.err.split()[-1]
    assert shown.out == f"team-a {sha256(key.encode()).hexdigest()}\n"


def test_keys_are_long_and_differ() -> None:
    assert len({new_key() for _ in range(50)}) == 50
    assert len(new_key()) >= 43


def test_a_name_that_would_break_the_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "team a"]) == 2
    assert "letters" in capsys.readouterr().err
