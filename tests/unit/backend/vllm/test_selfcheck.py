"""guard.backend.vllm.selfcheck: hooks are found in sources that are never imported."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from guard.backend.vllm.releases import RELEASES, Hook
from guard.backend.vllm.selfcheck import findings, installed, main, packed, problems

SOURCE = """
raise RuntimeError("importing this would need a GPU")

class Record:
    accepted: list[int]
    drafted: list[int] = []
    note = 3

class Engine:
    async def step(self, batch, *, now=None, **more):
        record.observe(
            accepted = 3
        )
"""
HOOKS = {
    "engine.step": Hook(
        "m.engine", "Engine", "step", ("self", "batch", "now", "**more"), ("record.observe(accepted=3)",)
    ),
    "engine.record": Hook("m.engine", "Record", "", ("accepted", "drafted"), patched=False),
}


def told(source: str | None, hooks: dict[str, Hook] = HOOKS) -> list[str]:
    return problems(hooks, findings(hooks, lambda _: source))


def test_hooks_that_are_as_expected_are_no_problem() -> None:
    assert told(SOURCE) == []


@pytest.mark.parametrize(
    ("was", "becomes", "reason"),
    [
        ("def step", "def run_step", "engine.step: there is no m.engine:Engine.step"),
        ("class Engine", "class Core", "engine.step: there is no m.engine:Engine.step"),
        ("batch,", "batch, wave,", "takes (self, batch, wave, now, **more), expected (self, batch, now, **more)"),
        ("accepted = 3", "kept = 3", "engine.step: m.engine:Engine.step does not hold `record.observe(accepted=3)`"),
        ("drafted:", "tried:", "engine.record: m.engine:Record has no drafted"),
    ],
)
def test_each_change_is_told_by_hook_and_expectation(was: str, becomes: str, reason: str) -> None:
    (problem,) = told(SOURCE.replace(was, becomes))
    assert reason in problem


def test_a_file_that_is_gone_is_told_for_each_hook() -> None:
    assert [each.split(":")[0] for each in told(None)] == ["engine.step", "engine.record"]


def test_parameters_that_do_not_matter_are_not_compared() -> None:
    assert told(SOURCE, {"engine.step": Hook("m.engine", "Engine", "step", ())}) == []


def test_a_wheel_and_a_folder_read_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = tmp_path / "vllm-0.32.9-py3-none-any.whl"
    sources = {
        hook.path: "class Scheduler:\n    def add_request(self, req): ...\n" for hook in RELEASES["0.32"].values()
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in sources.items():
            archive.writestr(path, text)
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
    assert packed(wheel)("vllm/nothing.py") is None
    assert main([str(wheel)]) == main([str(tmp_path), "0.32.9"]) == 1
    first, second = capsys.readouterr().out.split("}\n{")
    assert json.loads(first + "}") == json.loads("{" + second)
    record = json.loads(first + "}")
    assert record["version"] == "0.32.9"
    assert record["hooks"]["outputs.add"] is None
    assert any("takes (self, req), expected (self, request)" in each for each in record["problems"])


def test_a_folder_without_some_of_the_files_is_told_like_a_wheel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "0.32.9"]) == 1
    assert "there is no vllm.v1.core.sched.scheduler:Scheduler.add_request" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "usage: "),
        (["--help"], "usage: "),
        (["none.whl"], "usage: "),
        (["."], "'' is not known; known are 0.32"),
        ([".", "0.99.1"], "'0.99' is not known"),
    ],
)
def test_where_there_is_nothing_to_look_at_it_says_so(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


def test_where_vllm_is_not_installed_nothing_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("raise RuntimeError('never imported')")
    (tmp_path / "vllm" / "outputs.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert installed()("vllm/outputs.py") == "x = 1\n"
    assert installed()("vllm/nothing.py") is None
