"""LayerSplit's switches: environment variables, which every process of a deployment must have alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

VARIABLE: Final = "GUARD_VLLM_LAYER_SPLIT"
PREFETCH: Final = f"{VARIABLE}_PREFETCH"
CHECK: Final = f"{VARIABLE}_CHECK"
TIMEOUT: Final = f"{VARIABLE}_TIMEOUT"
PREFILL_ONLY: Final = f"{VARIABLE}_PREFILL_ONLY"


@dataclass(frozen=True)
class Settings:
    """
    What was asked for.

    Args:
        prefetch: Send a layer while the one before it is attended to.
        check: Verify the checksum of every layer that arrives.
        timeout_seconds: A broadcast that takes longer ends the engine.
        prefill_only: Refuse requests for more than one token.
    """

    prefetch: bool = True
    check: bool = False
    timeout_seconds: float = 300.0
    prefill_only: bool = False


def settings(environ: Mapping[str, str]) -> Settings | None:
    """
    Read the switches.

    Args:
        environ: The process's environment.

    Returns:
        None where LayerSplit is not switched on.

    Raises:
        ValueError: A switch has a value it cannot have.
    """
    if not _flag(environ, VARIABLE, default=False):
        return None
    given = environ.get(TIMEOUT, "300")
    try:
        timeout = float(given)
    except ValueError:
        timeout = 0.0
    if timeout <= 0:
        raise ValueError(f"{TIMEOUT}={given}: it must be a number of seconds above 0")
    return Settings(
        prefetch=_flag(environ, PREFETCH, default=True),
        check=_flag(environ, CHECK, default=False),
        timeout_seconds=timeout,
        prefill_only=_flag(environ, PREFILL_ONLY, default=False),
    )


def _flag(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = environ.get(name, "")
    if value not in {"", "0", "1"}:
        raise ValueError(f"{name}={value}: it must be 0 or 1")
    return default if value == "" else value == "1"
