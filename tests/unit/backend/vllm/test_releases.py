"""guard.backend.vllm.releases: the tables, against what the wheels of releases that cannot run here hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guard.backend.vllm.releases import RELEASES, Hook, line_of
from guard.backend.vllm.selfcheck import problems

FOUND = sorted(Path(__file__).parent.glob("found_*.json"))


@pytest.mark.parametrize(
    ("version", "line"), [("0.32.0", "0.32"), ("0.33.1.dev3+gabc.cpu", "0.33"), ("0.33.0rc1", "0.33"), ("1.0", "1.0")]
)
def test_the_line_is_the_first_two_numbers(version: str, line: str) -> None:
    assert line_of(version) == line


def test_every_release_but_the_one_that_tests_run_has_a_record_of_its_wheel() -> None:
    recorded = {line_of(json.loads(path.read_text())["version"]) for path in FOUND}
    assert recorded | {"0.32"} == set(RELEASES)


@pytest.mark.parametrize("path", FOUND, ids=[path.stem for path in FOUND])
def test_the_wheel_had_all_hooks_as_expected(path: Path) -> None:
    record = json.loads(path.read_text())
    hooks = RELEASES[line_of(record["version"])]
    assert set(record["hooks"]) == set(hooks), "made before the table changed: see guard/backend/README.md"
    assert problems(hooks, record["hooks"]) == []


def test_a_hook_names_its_place_and_file() -> None:
    hook = Hook("vllm.outputs", "RequestOutput", "add", ("self",))
    assert str(hook) == "vllm.outputs:RequestOutput.add"
    assert hook.path == "vllm/outputs.py"
    assert str(Hook("vllm.outputs", "RequestOutput", "", ())) == "vllm.outputs:RequestOutput"
