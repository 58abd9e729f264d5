"""Where the data folders are that ship beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent


def data_dir(name: Literal["policies", "draft_models"]) -> Path:
    """
    A data folder: beside the package in a checkout, inside it in an installed wheel.

    Args:
        name: Which folder.
    """
    beside = _PACKAGE.parent / name
    inside = _PACKAGE / "_data" / name
    return inside if inside.is_dir() else beside
