"""Data folders are found in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard import data


def test_beside_the_package_in_a_checkout() -> None:
    assert (data.data_dir("policies") / "default.yaml").is_file()
    assert data.data_dir("draft_models").is_dir()


def test_inside_the_package_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "guard" / "_data" / "policies"
    inside.mkdir(parents=True)
    monkeypatch.setattr(data, "_PACKAGE", tmp_path / "guard")
    assert data.data_dir("policies") == inside
