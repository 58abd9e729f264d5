"""
The entry point: vLLM calls `register` in each of its processes, in some more than once.

Nothing here may stop vLLM from starting. What cannot be done is said loudly, and vLLM serves
without it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from guard.backend.vllm.acceptance.hooks import plan
from guard.backend.vllm.acceptance.switch import VARIABLE, Mode, Switch, mode
from guard.backend.vllm.layer_split import hooks as layer_split
from guard.backend.vllm.layer_split.settings import VARIABLE as LAYER_SPLIT
from guard.backend.vllm.layer_split.settings import settings
from guard.backend.vllm.race_free import hooks as race_free
from guard.backend.vllm.race_free import table as race_free_table
from guard.backend.vllm.releases import RELEASES, Hook, line_of
from guard.backend.vllm.selfcheck import Reader, findings, installed, problems

# Below "vllm", whose handlers and level it then has.
_log = logging.getLogger("vllm.plugins.guard")
_FAULTS: Final = "GUARD_VLLM_FAULTS"
_RACE_FREE: Final = "GUARD_VLLM_RACE_FREE"
_done: Final[set[str]] = set()


def register() -> None:
    """Switch on what the environment asks for; once in a process, however often it is called."""
    _once("acceptance", lambda: install_acceptance(_version()))
    if os.environ.get(_RACE_FREE):
        _once("the race-free cache", lambda: install_race_free(_version))
    if os.environ.get(LAYER_SPLIT):
        _once("LayerSplit", lambda: install_layer_split(_version()))
    if os.environ.get(_FAULTS) == "1":
        _once("faults", _install_faults)


def install_acceptance(
    version: str,
    *,
    environ: Mapping[str, str] = os.environ,
    read: Reader | None = None,
) -> bool:
    """
    Patch vLLM so that it tells each verify step's acceptance.

    Args:
        version: Of vLLM.
        environ: The process's environment.
        read: Gives vLLM's source files; None for those of the installation.

    Returns:
        Whether the hooks are in place. If not, and it was not switched off, a log line says why.
    """
    try:
        asked = mode(environ)
    except ValueError as error:
        _refuse(version, [str(error)])
        return False
    if asked is Mode.OFF:
        return False
    hooks = RELEASES.get(line_of(version))
    if hooks is None:
        _refuse(version, [f"release line {line_of(version)} is not known; known are {', '.join(RELEASES)}"])
        return False
    wrong = problems(hooks, findings(hooks, read or installed()))
    if wrong:
        _refuse(version, wrong)
        return False
    return _patch(version, hooks, asked)


def install_race_free(
    version: Callable[[], str],
    *,
    environ: Mapping[str, str] = os.environ,
    read: Reader | None = None,
) -> bool:
    """
    Put the rules of `guard.backend.kv` around vLLM's KV connector, if the environment asks for it.

    Args:
        version: Tells vLLM's version.
        environ: The process's environment.
        read: Gives vLLM's source files; None for those of the installation.

    Returns:
        Whether connectors made from now on have them. If not, and it was asked for, a log line says why.
    """
    asked = environ.get(_RACE_FREE, "")
    if asked in {"", "0"}:
        return False
    refusals: list[str] = []

    def refused(reason: str) -> None:
        refusals.append(reason)
        _log.error(
            "guard: REFUSED to make the KV cache of vLLM %s race-free: %s. Nothing is patched; vLLM serves on WITHOUT "
            "it. Install a guard that knows this release, or unset %s.",
            version(),
            reason,
            _RACE_FREE,
        )

    line = line_of(version())
    hooks = race_free_table.RELEASES.get(line)
    if asked != "1":
        refused(f"{_RACE_FREE} is {asked!r}; it may be 1 or 0")
    elif hooks is None:
        refused(f"release line {line} is not known; known are {', '.join(race_free_table.RELEASES)}")
    elif wrong := problems(hooks, findings(hooks, read or installed())):
        refused("; ".join(wrong))
    else:
        race_free.plan(hooks, refused).install()
    if refusals:
        return False
    _log.info("guard: race-free KV cache around the configured connector (vLLM %s)", version())
    return True


def _patch(version: str, hooks: Mapping[str, Hook], asked: Mode) -> bool:
    refusals: list[str] = []

    def refused(reason: str) -> None:
        refusals.append(reason)
        _refuse(version, [reason])

    plan(hooks, Switch(asked), refused).install()
    if refusals:
        return False
    whom = "all requests" if asked is Mode.ALL else "requests that ask for it"
    _log.info("guard: exact acceptance of each verify step for %s (vLLM %s)", whom, version)
    return True


def install_layer_split(
    version: str,
    *,
    environ: Mapping[str, str] = os.environ,
    read: Reader | None = None,
) -> bool:
    """
    Patch vLLM so that each rank keeps its own layers of a KV cache that all ranks would keep.

    Args:
        version: Of vLLM.
        environ: The process's environment.
        read: Gives vLLM's source files; None for those of the installation.

    Returns:
        Whether the hooks are in place. If not, and it was asked for, a log line says why.
    """
    try:
        if settings(environ) is None:
            return False
    except ValueError as error:
        _refuse_split(version, [str(error)])
        return False
    hooks = layer_split.RELEASES.get(line_of(version))
    if hooks is None:
        known = ", ".join(layer_split.RELEASES)
        _refuse_split(version, [f"release line {line_of(version)} is not known; known are {known}"])
        return False
    wrong = problems(hooks, findings(hooks, read or installed()))
    if wrong:
        _refuse_split(version, wrong)
        return False
    refusals: list[str] = []

    def refused(reason: str) -> None:
        refusals.append(reason)
        _refuse_split(version, [reason])

    layer_split.plan(hooks, refused).install()
    if refusals:
        return False
    _log.info("guard: LayerSplit (vLLM %s)", version)
    return True


def _refuse_split(version: str, reasons: list[str]) -> None:
    _log.error(
        "guard: REFUSED to patch vLLM %s for LayerSplit: %s. Every rank keeps all layers, as without it. "
        "Install a guard that knows this release, or set %s=0.",
        version,
        "; ".join(reasons),
        LAYER_SPLIT,
    )


def _refuse(version: str, reasons: list[str]) -> None:
    _log.error(
        "guard: REFUSED to patch vLLM %s: %s. Nothing is patched; vLLM serves on without per-step acceptance. "
        "Install a guard that knows this release, or set %s=0.",
        version,
        "; ".join(reasons),
        VARIABLE,
    )


def _version() -> str:
    import vllm  # noqa: PLC0415 - only in the vLLM environment

    version: str = vllm.__version__
    return version


def _install_faults() -> None:
    import_module("guard.backend.vllm.faults").install()


def _once(name: str, do: Callable[[], Any]) -> None:
    if name in _done:
        return
    _done.add(name)
    try:
        do()
    except Exception:
        _log.exception("guard: %s is not in place; vLLM serves on without it", name)
