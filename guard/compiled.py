"""Whether the parts that run for every chunk are compiled to machine code (deploy/compile.py) or in Python."""

from __future__ import annotations

from importlib.util import find_spec

#: One of the modules that are compiled all together.
_ONE = "guard.core.monitor"


def is_compiled() -> bool:
    """True in a build with SPECDEC_GUARD_COMPILE=1. Imports nothing."""
    found = find_spec(_ONE)
    return found is not None and found.origin is not None and not found.origin.endswith(".py")


def build_name() -> str:
    """The build in a word: "compiled" or "python"."""
    return "compiled" if is_compiled() else "python"
