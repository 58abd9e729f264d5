"""Shipped policies by name; files by path; errors that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.shipped import find_policy, shipped_policies


@pytest.mark.parametrize("name", shipped_policies())
def test_every_shipped_policy_loads_under_its_own_name(name: str) -> None:
    assert find_policy(name).name == name


def test_the_policies_that_the_documentation_names_ship() -> None:
    assert {"default", "published", "observe", "text-only", "demo"} <= set(shipped_policies())


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        find_policy("defualt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        find_policy(str(tmp_path / "none.yaml"))
