"""Who gets the steps: the requests that ask for them, or all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

#: Key in a request's `vllm_xargs` (in SamplingParams: `extra_args`): 1 to get the steps, 0 to get none.
KEY: Final = "guard_acceptance"
#: Environment of the vLLM server: 1 for all requests, 0 to leave vLLM unpatched, unset for those that ask.
VARIABLE: Final = "GUARD_VLLM_ACCEPTANCE"


class Mode(Enum):
    """What the environment says."""

    OFF = "0"
    ON_REQUEST = ""
    ALL = "1"


def mode(environ: Mapping[str, str] = os.environ) -> Mode:
    """
    Read the environment.

    Raises:
        ValueError: The variable holds none of the three values.
    """
    value = environ.get(VARIABLE, "").strip()
    try:
        return Mode(value)
    except ValueError:
        raise ValueError(
            f"{VARIABLE} is {value!r}; it may be 1 (all requests), 0 (off) or unset (on request)"
        ) from None


class Switch:
    """
    Decides for one request; the same in the engine and in the API server, which both see its extra arguments.

    Args:
        mode: What the environment says.
    """

    def __init__(self, mode: Mode) -> None:
        self._all = mode is Mode.ALL

    def wanted(self, extra_args: Mapping[str, Any] | None) -> bool:
        """Whether a request with these extra arguments gets its steps; what it says itself counts before the rest."""
        if not extra_args:
            return self._all
        value = extra_args.get(KEY)
        if value is None:
            return self._all
        return value not in (0, "0", "", "false", "False")
