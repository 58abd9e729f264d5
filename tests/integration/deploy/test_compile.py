"""The compiled build, made as an operator makes it, says of every recorded stream what the Python build says."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specdec-guard-ci"
#: After which a build of other sources is thrown away. Unit: seconds.
STALE = 3 * 86_400


def key() -> str:
    """Of all that the libraries are made from, and all that runs with them."""
    sums = hashlib.sha256(sys.version.encode())
    inside = [
        path for kind in ("*.py", "*.c") for path in (CHECKOUT / "guard").rglob(kind) if "backend" not in path.parts
    ]
    for path in sorted([*inside, *(CHECKOUT / "deploy").glob("*.py")]):
        sums.update(str(path.relative_to(CHECKOUT)).encode() + path.read_bytes())
    return sums.hexdigest()[:16]


@pytest.fixture(scope="module")
def installed() -> Path:
    """The wheel of a compiled build, unpacked; kept for the next run under the sum of its sources."""
    folder = CACHE / f"compiled-{key()}"
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    for stale in CACHE.glob("compiled-*"):
        if stale.stat().st_mtime < time.time() - STALE:
            shutil.rmtree(stale, ignore_errors=True)
    left = Path(tempfile.mkdtemp(dir=CACHE))
    environment = {**os.environ, "GUARD_PYTHON": sys.executable, "SPECDEC_GUARD_COMPILE": "1", "PYTHONPATH": ""}
    environment["TMPDIR"] = str(left)
    subprocess.run(["bash", "deploy/servers.sh"], cwd=CHECKOUT, check=True, env=environment)
    # Another run may make the same at the same time: whole or not there, and the first stays.
    made = Path(tempfile.mkdtemp(dir=CACHE))
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "-w", made, str(CHECKOUT)], check=True, env=environment)
    assert not list(left.glob("specdec-guard-*"))
    shutil.rmtree(left)
    (wheel,) = made.glob("*.whl")
    assert "-none-any" not in wheel.name
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(made)
    with contextlib.suppress(OSError):
        made.rename(folder)
    shutil.rmtree(made, ignore_errors=True)
    return folder


def ran(where: Path, *command: str) -> str:
    """What an interpreter says that finds its guard there."""
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(where)},
        cwd=where,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.mark.timeout(900)
def test_both_builds_say_the_same_of_every_recorded_stream(installed: Path) -> None:
    assert ran(installed, "-m", "guard", "--version").strip().endswith("(compiled)")
    assert ran(CHECKOUT, "-m", "guard", "--version").strip().endswith("(python)")
    assert ran(installed, "-c", "import guard.server._lane, guard.detect._pages") == ""
    replay = str(Path(__file__).parent / "replayed.py")
    python, compiled = (json.loads(ran(where, replay, str(CHECKOUT))) for where in (CHECKOUT, installed))
    assert compiled.pop("built") == "compiled"
    assert python.pop("built") == "python"
    assert len(python["verdicts"]) > 100
    assert python["acted"] > 20
    assert compiled == python


@pytest.mark.timeout(900)
def test_each_signal_alone_reads_the_same_in_both_builds(installed: Path) -> None:
    script = str(Path(__file__).parent / "signals.py")
    python, compiled = (json.loads(ran(where, script)) for where in (CHECKOUT, installed))
    assert compiled == python
    assert sum(any(reading is not None for reading in said) for said in python.values()) > 60
