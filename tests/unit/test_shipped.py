"""Shipped policies by name; files by path; errors that help."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.shipped import find_policy, policy_faults, shipped_policies


@pytest.mark.parametrize("name", shipped_policies())
def test_every_shipped_policy_loads_under_its_own_name(name: str) -> None:
    assert find_policy(name).name == name


def test_the_policies_that_the_documentation_names_ship() -> None:
    assert {"default", "published", "observe", "text-only", "demo"} <= set(shipped_policies())


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"called 'defualt', and a file .* ending .*; did you mean 'default'"):
        find_policy("defualt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        find_policy(str(tmp_path / "none.yaml"))


def test_what_is_no_text_file_of_ours_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    with model.open("wb") as file:
        file.truncate(1 << 40)  # a hole: nothing of it is on the disk
    with pytest.raises(ConfigError, match=r"model\.gguf: larger than 16777216 bytes"):
        find_policy(str(model))
    with pytest.raises(ConfigError, match="cannot be read: embedded null byte"):
        find_policy("a\0.yaml")
    with pytest.raises(ConfigError, match="no shipped policy is called 'xxx"):
        find_policy("x" * 5000)


def test_a_file_can_extend_a_shipped_policy_and_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nname: mine\nextends: default\nhold_back: {mode: full}\n")
    (tmp_path / "noted.yaml").write_text("version: 1\nname: noted\nextends: mine.yaml\naction_override: note\n")
    noted = find_policy(str(tmp_path / "noted.yaml"))
    assert len(noted.rules) == len(find_policy("default").rules)
    assert noted.hold_back.mode == "full"


def test_extending_what_is_not_there_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("version: 1\nname: mine\nextends: defualt\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:3: extends: .* did you mean 'default'"):
        find_policy(str(file))
    (tmp_path / "middle.yaml").write_text("version: 1\nname: middle\n\nextends: gone.yaml\n")
    file.write_text("version: 1\nname: mine\nextends: middle.yaml\n")
    says = r"middle\.yaml:4: extends: \S*gone\.yaml: cannot be read: No such file"
    with pytest.raises(ConfigError, match=says):
        find_policy(str(file))
    assert [bool(re.search(says, str(fault))) for fault in policy_faults(str(file))] == [True]
