"""
Compiles what the guard computes for every chunk to machine code, with mypyc and from C: less CPU, the same verdicts.

Run: `python deploy/compile.py FOLDER` in a checkout, with mypy and a C compiler. FOLDER then holds a package `guard`
with all its sources, in which the modules named here are compiled; `PYTHONPATH=FOLDER guard serve ...` runs it.
`SPECDEC_GUARD_COMPILE=1 pip install .` makes a wheel of the same (build_hook.py). The sources stay as they are, and
every module works without this.

What stays in Python: modules that define msgspec structs (types, wire, core.events, core.record, proto.sse), whose
metaclass mypyc does not know; detect.prompt, for its cached properties; all that runs once for a stream, and all that
waits for a network (server.driver and server.outlet were tried: no gain beside their system calls). A class whose base
is compiled must be compiled too.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: What runs for each chunk.
MODULES = (
    *(
        f"guard/detect/{name}.py"
        for name in (
            *("acceptance", "bank", "blank", "channel", "cycle", "familiar", "garble", "glance", "items", "logprob"),
            *("misplaced", "nesting", "novelty", "numerals", "parts", "plain", "rare", "reference", "repetition"),
            *("sentences", "shape", "step_window", "stretch", "texture", "told", "topic", "window", "words"),
        )
    ),
    *("guard/policy/gates.py", "guard/policy/judge.py"),
    *(f"guard/core/{name}.py" for name in ("attempt", "beginning", "confirm", "exchange", "holdback", "ledger")),
    *(f"guard/core/{name}.py" for name in ("monitor", "outgoing", "own_error", "passing", "shadow", "wary", "whole")),
    *("guard/core/delivery.py", "guard/core/factory.py", "guard/proto/http_body.py", "guard/proto/plain.py"),
    "guard/proto/rewrite.py",
    *(f"guard/signals/{name}.py" for name in ("llama", "sglang", "text", "vllm")),
)
#: Extensions in C: module -> source. See its head for what it does; without it the same is done in Python.
IN_C = {
    "guard.server._lane": "guard/server/_lane.c",
    "guard.detect._pages": "guard/detect/_pages.c",
    "guard.detect._steps": "guard/detect/_steps.c",
}
#: What the compilation itself needs; msgspec for its types.
REQUIRES = ("mypy>=1.13,<3", "setuptools>=65", "msgspec>=0.19,<1")
#: Name of the library that all compiled modules share.
LIBRARY = "specdec_guard"


def in_c() -> list[Any]:
    """The extensions that are written in C. Sums come out as in Python, on every processor."""
    from setuptools import Extension  # noqa: PLC0415 - needed for nothing else

    return [Extension(name, [source], extra_compile_args=["-O2", "-ffp-contract=off"]) for name, source in IN_C.items()]


def compile_modules(root: Path, out: Path) -> list[Path]:
    """
    Compile the modules.

    Args:
        root: The checkout.
        out: Where the libraries go, at the paths of their modules.

    Returns:
        The libraries.

    Raises:
        SystemExit: mypyc refuses a module; its reason is printed.
    """
    from mypyc.build import mypycify  # noqa: PLC0415 - needed for nothing else
    from setuptools import Distribution  # noqa: PLC0415 - the same

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as work:
        os.chdir(root)  # mypyc takes a module's name from its relative path
        try:
            options = ["--config-file", os.devnull, "--ignore-missing-imports", f"--cache-dir={work}/mypy"]
            extensions = mypycify(
                [*options, *MODULES], opt_level="2", debug_level="0", target_dir=f"{work}/c", group_name=LIBRARY
            )
            command = Distribution({"ext_modules": [*extensions, *in_c()]}).get_command_obj("build_ext")
            command.build_lib, command.build_temp = str(out), f"{work}/o"
            command.ensure_finalized()
            command.run()
        finally:
            os.chdir(before)
    return sorted(path for path in out.rglob("*") if path.suffix in (".so", ".pyd"))


def main() -> None:
    """Make the folder."""
    if len(sys.argv) != 2:
        sys.exit("usage: python deploy/compile.py FOLDER")
    out = Path(sys.argv[1]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    built = compile_modules(ROOT, out)
    shutil.copytree(ROOT / "guard", out / "guard", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("policies", "draft_models"):
        shutil.copytree(ROOT / name, out / name, dirs_exist_ok=True)
    print(f"{len(built)} libraries in {out}")


if __name__ == "__main__":
    main()
