"""The libraries in C, compiled as deploy/compile.py compiles them; kept until their source changes."""

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
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specdec-guard-ci"
#: Whatever a compiler can find fault with is one.
STRICT = ("-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-Wno-cast-function-type")


@functools.cache
def library(name: str) -> ModuleType:
    """
    A module in C, not in `sys.modules`: nothing but the tests that ask for it uses it.

    Args:
        name: Of the module.
    """
    source = ROOT / f"{name.replace('.', '/')}.c"
    flags = ["-O2", "-ffp-contract=off", "-shared", "-fPIC", *STRICT]
    sums = hashlib.sha256(" ".join([sys.version, *flags]).encode() + source.read_bytes()).hexdigest()[:16]
    path = CACHE / f"library-{name}-{sums}.so"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            made = Path(folder) / "made.so"
            include = f"-I{sysconfig.get_paths()['include']}"
            subprocess.run([os.environ.get("CC", "cc"), *flags, include, str(source), "-o", str(made)], check=True)
            made.rename(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    before = sys.modules.get(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop(name, None)  # where a module in C puts itself
    if before is not None:
        sys.modules[name] = before
    return module


def in_dev_mode(file: str, names: str) -> None:
    """Run some tests of a file once more where Python checks its memory, its references and the types of calls."""
    if os.environ.get("PYTHONDEVMODE"):
        return
    script = "import pytest, sys; sys.exit(pytest.main(['-q', '-x', '-p', 'no:cacheprovider', *sys.argv[1:]]))"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script, file, "-k", names],
        env={**os.environ, "PYTHONDEVMODE": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
