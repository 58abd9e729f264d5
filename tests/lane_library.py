"""The library of `guard/server/_lane.c`, compiled as deploy/compile.py compiles it; kept until its source changes."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "guard/server/_lane.c"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specdec-guard-ci"
#: More than is told of elsewhere: whatever a compiler can find fault with is one.
STRICT = ("-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-Wno-cast-function-type")


@functools.cache
def lane_library() -> ModuleType:
    """The module `guard.server._lane`, not in `sys.modules`: nothing but the tests that ask for it uses it."""
    flags = ["-O2", "-ffp-contract=off", "-shared", "-fPIC", *STRICT]
    sums = hashlib.sha256(" ".join([sys.version, *flags]).encode() + SOURCE.read_bytes()).hexdigest()[:16]
    path = CACHE / f"lane-{sums}.so"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            made = Path(folder) / "lane.so"
            include = f"-I{sysconfig.get_paths()['include']}"
            subprocess.run([os.environ.get("CC", "cc"), *flags, include, str(SOURCE), "-o", str(made)], check=True)
            made.rename(path)
    spec = importlib.util.spec_from_file_location("guard.server._lane", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop(spec.name, None)  # where a module in C puts itself
    return module
