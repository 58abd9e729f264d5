"""guard.backend.vllm.patching: all or nothing, now or at import, and undone without a trace."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from guard.backend.vllm.patching import MARK, Patches
from guard.backend.vllm.releases import Hook

SOURCE = """
class Engine:
    def step(self, batch):
        return [batch]

    def add(self, *more, **named):
        pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package `engine_of_<test>` with modules `one` and `two`, not yet imported."""
    name = f"engine_of_{tmp_path.name}".replace("-", "_")
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "one.py").write_text(SOURCE)
    (folder / "two.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield name
    sys.meta_path[:] = finders
    for each in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[each]


def doubled(_: ModuleType, original: Callable[..., Any]) -> Callable[..., Any]:
    def step(self: Any, batch: Any) -> Any:
        return original(self, batch) * 2

    return step


def hook(module: str, name: str = "step", parameters: tuple[str, ...] = ("self", "batch")) -> Hook:
    return Hook(module, "Engine", name, parameters)


def test_a_module_already_imported_is_patched_at_once(package: str) -> None:
    one = importlib.import_module(f"{package}.one")
    patches = Patches(pytest.fail)
    patches.replace("engine.step", hook(f"{package}.one"), doubled)
    patches.install()
    assert one.Engine().step(1) == [1, 1]
    assert getattr(one.Engine.step, MARK) == "engine.step"


def test_another_is_patched_when_it_is_imported_and_not_before(package: str) -> None:
    patches = Patches(pytest.fail)
    patches.replace("engine.step", hook(f"{package}.one"), doubled)
    patches.define(hook(f"{package}.one"), "depth", 3)
    patches.install()
    assert f"{package}.one" not in sys.modules
    one = importlib.import_module(f"{package}.one")
    assert one.Engine().step(1) == [1, 1]
    assert one.Engine.depth == 3
    assert type(one.__spec__.loader).__name__ == type(one.__loader__).__name__ == "SourceFileLoader"
    assert importlib.import_module(f"{package}.two").Engine().step(1) == [1]


def test_twice_is_once(package: str) -> None:
    for _ in range(2):
        patches = Patches(pytest.fail)
        patches.replace("engine.step", hook(f"{package}.one"), doubled)
        patches.install()
    assert importlib.import_module(f"{package}.one").Engine().step(1) == [1, 1]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (("stepped", ("self", "batch")), r"engine\.other: there is no .*two:Engine\.stepped"),
        (("step", ("self", "batch", "now")), r"takes \(self, batch\), expected \(self, batch, now\)"),
        (("add", ("self",)), r"takes \(self, \*more, \*\*named\), expected \(self\)"),
    ],
)
def test_one_hook_that_is_not_there_undoes_all(package: str, wrong: tuple[str, tuple[str, ...]], reason: str) -> None:
    one = importlib.import_module(f"{package}.one")
    stock = one.Engine.step
    refusals: list[str] = []
    patches = Patches(refusals.append)
    patches.replace("engine.step", hook(f"{package}.one"), doubled)
    patches.define(hook(f"{package}.one"), "depth", 3)
    patches.replace("engine.other", hook(f"{package}.two", *wrong), doubled)
    patches.install()
    assert one.Engine().step(1) == [1, 1]
    two = importlib.import_module(f"{package}.two")
    assert one.Engine.step is stock
    assert not hasattr(one.Engine, "depth")
    assert two.Engine().step(1) == [1]
    assert len(refusals) == 1
    assert re.search(reason, refusals[0])


def test_a_class_that_is_gone_is_refused(package: str) -> None:
    refusals: list[str] = []
    patches = Patches(refusals.append)
    patches.define(Hook(f"{package}.one", "Motor", "", ()), "depth", 3)
    patches.install()
    importlib.import_module(f"{package}.one")
    assert refusals == [f"depth: there is no {package}.one:Motor"]


@pytest.mark.parametrize("late", [False, True])
def test_what_other_processes_rely_on_stays_when_the_rest_is_undone(package: str, late: bool) -> None:
    refusals: list[str] = []
    patches = Patches(refusals.append)
    patches.define(hook(f"{package}.one"), "depth", 3, keep=True)
    patches.replace("engine.step", hook(f"{package}.one"), doubled)
    patches.replace("engine.other", hook(f"{package}.two", "stepped"), doubled)
    patches.install()
    for name in ("two", "one") if late else ("one", "two"):
        importlib.import_module(f"{package}.{name}")
    one = importlib.import_module(f"{package}.one")
    assert (one.Engine().step(1), one.Engine.depth) == ([1], 3)
    assert len(refusals) == 1
