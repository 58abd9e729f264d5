"""Hatchling's hook for wheels: with SPECDEC_GUARD_COMPILE=1 the modules of compile.py are compiled, else nothing is."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileHook(BuildHookInterface[Any]):
    """See the module."""

    #: Where the libraries are until the wheel has them.
    _out: Path | None = None

    def dependencies(self) -> list[str]:
        """What is installed beside hatchling before the build."""
        return list(self._compile().REQUIRES) if self._wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and add the libraries; an editable install stays as it is."""
        if not self._wanted() or version != "standard":
            return
        out = self._out = Path(tempfile.mkdtemp(prefix="specdec-guard-"))
        for library in self._compile().compile_modules(Path(self.root), out):
            build_data["force_include"][str(library)] = library.relative_to(out).as_posix()
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is made."""
        if self._out is not None:
            shutil.rmtree(self._out)

    def _wanted(self) -> bool:
        return os.environ.get("SPECDEC_GUARD_COMPILE", "") not in ("", "0")

    def _compile(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("guard_compile", Path(self.root) / "deploy/compile.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
