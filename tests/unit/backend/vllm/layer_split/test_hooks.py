"""guard.backend.vllm.layer_split.hooks: every hook that is replaced has its replacement, and a mismatch undoes all."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from guard.backend.vllm.layer_split.hooks import RELEASES, plan
from guard.backend.vllm.layer_split.settings import VARIABLE
from guard.backend.vllm.plugin import install_layer_split
from guard.backend.vllm.selfcheck import findings, problems


def test_every_replaced_hook_has_a_maker() -> None:
    for hooks in RELEASES.values():
        plan(hooks, lambda reason: None)


def test_a_release_that_lacks_a_hook_is_a_problem_by_name() -> None:
    hooks = RELEASES["0.32"]
    wrong = problems(hooks, findings(hooks, lambda path: "class GPUModelRunner:\n    pass\n"))
    assert len(wrong) == len(hooks)
    assert any("GPUModelRunner._build_attention_metadata" in each for each in wrong)


@pytest.mark.parametrize(
    ("version", "environ", "told"),
    [
        ("0.32.0", {}, ""),
        ("0.32.0", {VARIABLE: "0"}, ""),
        ("0.32.0", {VARIABLE: "maybe"}, "must be 0 or 1"),
        ("0.31.2", {VARIABLE: "1"}, "release line 0.31 is not known"),
        ("0.32.0", {VARIABLE: "1"}, "there is no"),
    ],
)
def test_it_is_off_or_refused_with_the_reason(
    version: str, environ: dict[str, str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not install_layer_split(version, environ=environ, read=lambda path: None)
    assert told in caplog.text
    assert ("REFUSED" in caplog.text) == bool(told)


def test_a_method_that_changed_after_all_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    class Worker:
        def determine_available_memory(self, more: Any) -> int:
            return 1

    name = "vllm.v1.worker.gpu_worker"
    module = ModuleType(name)
    module.Worker = Worker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    before = Worker.determine_available_memory
    reasons: list[str] = []
    plan(RELEASES["0.32"], reasons.append).install()
    assert len(reasons) == 1
    assert "worker.memory" in reasons[0]
    assert Worker.determine_available_memory is before
