"""Data folders are found in a checkout and in an installed wheel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guard import data
from guard.errors import ConfigError


def test_beside_the_package_in_a_checkout() -> None:
    assert (data.data_dir("policies") / "default.yaml").is_file()
    assert data.data_dir("draft_models").is_dir()


def test_inside_the_package_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "guard" / "_data" / "policies"
    inside.mkdir(parents=True)
    monkeypatch.setattr(data, "_PACKAGE", tmp_path / "guard")
    assert data.data_dir("policies") == inside


def test_a_text_file_may_have_any_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\u00e9\r\nb\rc\n".encode())
    assert data.read_text(tmp_path / "a") == "\u00e9\nb\nc\n"


def test_what_is_no_regular_file_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "a", tmp_path / "missing"):
        data.check_regular(path)
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(ConfigError, match="no regular file"):
            data.check_regular(path)
