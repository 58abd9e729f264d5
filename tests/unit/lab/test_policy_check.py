"""`guard policy check` of files, folders and tests; what a policy makes of the one that it extends."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.data import data_dir
from guard.errors import ConfigError
from guard.lab.policy_check import policy_check_command
from guard.shipped import find_policy

RULE = "{{name: {}, kind: garbled, action: note, when: {{signal: joints, window: 160 characters, above: {}}}}}"


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"version: 1\nname: mine\n{text}\n")
    return str(path)


def test_a_folder_is_all_its_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.yaml", "extends: default")
    write(tmp_path, "b.yml", "extends: defualt")
    (tmp_path / "a_test.yaml").write_text("tests: []\n")
    assert policy_check_command([str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == f"{tmp_path}/a.yaml: good (mine, {len(find_policy('default').rules)} rules)\n"
    assert said.err.startswith(f"{tmp_path}/b.yml:3: extends: ")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty: the folder has no policy"):
        policy_check_command([str(tmp_path / "empty")])


def test_an_empty_name_is_not_the_folder_one_is_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert policy_check_command([""]) == 1  # of a variable that is not set
    said = capsys.readouterr()
    assert (said.out, said.err[:34]) == ("", "no shipped policy is called '', an")


def test_a_file_of_tests_is_not_passed_over_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(data_dir("policies") / "default_test.yaml")
    assert policy_check_command([file]) == 0
    assert capsys.readouterr().out == f"{file}: tests, which `guard policy test` runs\n"


def test_a_rule_that_was_meant_to_replace_another_shows_where_it_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = f"{RULE.format('torn', 0.4)}, {RULE.format('tron', 0.3)}"
    inherited = len(find_policy("default").rules)
    file = write(tmp_path, "mine.yaml", f"extends: default\nrules: [{rules}]\ndisable: [symbols, flood]")
    assert policy_check_command([file, "published"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: good (mine, {inherited - 1} rules; new: tron; replaced: torn; left out: symbols, flood)",
        "published: good (published, 2 rules)",
    ]
