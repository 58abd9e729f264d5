"""The guard says which build it is."""

from __future__ import annotations

import ast
import runpy
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from guard import compiled

CHECKOUT = Path(__file__).parents[2]


def test_in_a_checkout_all_is_python() -> None:
    assert not compiled.is_compiled()
    assert compiled.build_name() == "python"


def test_a_library_in_place_of_the_module_is_the_compiled_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> ModuleSpec:
        return ModuleSpec(name, None, origin="/venv/guard/core/monitor.cpython-311-x86_64-linux-gnu.so")

    monkeypatch.setattr(compiled, "find_spec", found)
    assert compiled.build_name() == "compiled"


def test_no_class_in_python_inherits_from_a_compiled_one() -> None:
    """Making such an object is a TypeError, and only in the compiled build."""
    modules = {CHECKOUT / name for name in runpy.run_path(str(CHECKOUT / "deploy/compile.py"))["MODULES"]}
    native: set[tuple[str, str]] = set()
    for path in modules:
        name = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
        native |= {(name, node.name) for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)}
    assert ("guard.signals.text", "TextAdapter") in native
    wrong: list[str] = []
    for path in set((CHECKOUT / "guard").rglob("*.py")) - modules:
        tree = ast.parse(path.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        come = {alias.asname or alias.name: (node.module or "", alias.name) for node in imports for alias in node.names}
        for node in ast.walk(tree):
            bases = node.bases if isinstance(node, ast.ClassDef) else []
            wrong += [
                f"{path}: {base.id}" for base in bases if isinstance(base, ast.Name) and come.get(base.id) in native
            ]
    assert wrong == []
