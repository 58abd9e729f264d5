"""The guard says which build it is."""

from __future__ import annotations

from importlib.machinery import ModuleSpec

import pytest

from guard import compiled


def test_in_a_checkout_all_is_python() -> None:
    assert not compiled.is_compiled()
    assert compiled.build_name() == "python"


def test_a_library_in_place_of_the_module_is_the_compiled_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> ModuleSpec:
        return ModuleSpec(name, None, origin="/venv/guard/core/monitor.cpython-311-x86_64-linux-gnu.so")

    monkeypatch.setattr(compiled, "find_spec", found)
    assert compiled.build_name() == "compiled"
