"""`deploy/dev.sh`, the first thing that anybody runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "deploy" / "dev.sh"


def test_interpreters_that_are_none_are_passed_over_in_silence(tmp_path: Path) -> None:
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        shim = tmp_path / name
        shim.write_text(f"#!/bin/sh\necho 'shims: {name}: command not found' >&2\nexit 127\n")
        shim.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if name != "GUARD_PYTHON"}
    environ["PATH"] = f"{tmp_path}{os.pathsep}{environ['PATH']}"
    done = subprocess.run(["bash", SCRIPT, "demo"], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("dev.sh: no Python 3.11 or later found")
