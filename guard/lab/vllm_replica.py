"""
A real vLLM on this machine, as the demo's replica: started as a process, spoilt by its own plugin.

The process is the test bed's server (`python -m guard.backend.testbed serve`), which needs an
interpreter with vLLM in it; `deploy/vllm_env.sh` makes one.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import httpx

from guard.errors import SetupError
from guard.lab.inject import FaultPlan
from guard.lab.ports import free_port

#: Names an interpreter that has vLLM, where this one has not.
PYTHON_VARIABLE = "GUARD_VLLM_PYTHON"
#: What the test bed calls the server, its draft and the depth of it.
CONFIGURATION = "smollm2-draft"
DRAFT = "smollm2-135m-drop25-26"
NUM_SPECULATIVE_TOKENS = 3
#: Longest that the models and the server may take. Unit: seconds.
READY_SECONDS = 900.0
_POLL_SECONDS = 0.5
_GRACE_SECONDS = 30.0
_LOG_CHARACTERS = 4000

#: A fault of the lab, as the plugin in vLLM calls it.
_ORDERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "noise": {"guard_fault": "noise"},
        "zero_half": {"guard_fault": "zeros", "guard_fault_values": 0.5},
        "shuffle": {"guard_fault": "shuffle"},
        "splice": {"guard_fault": "splice"},
    }
)


def vllm_python(environ: Mapping[str, str] = os.environ) -> str:
    """
    An interpreter that has vLLM: the one named, else this one.

    Raises:
        SetupError: There is none; says how to make one.
    """
    named = environ.get(PYTHON_VARIABLE)
    if named:
        return named
    if importlib.util.find_spec("vllm") is None:
        raise SetupError(
            "this Python has no vLLM; run `bash deploy/dev.sh vllm-demo`, or name an interpreter that has it in "
            f"{PYTHON_VARIABLE} (`bash deploy/vllm_env.sh` makes one for the CPU and prints it)"
        )
    return sys.executable


def order_of(plan: FaultPlan, name: str) -> dict[str, Any]:
    """
    A fault as a request carries it in `vllm_xargs`.

    Args:
        plan: What to do; its rows and its match are llama.cpp's and not looked at.
        name: Of the order: each is carried out once, so that a retry, which carries the same one, is left alone.
    """
    return {
        **_ORDERS[plan.fault],
        "guard_fault_onset": plan.onset_token,
        "guard_fault_seed": plan.seed,
        "guard_fault_layers": "target",
        "guard_fault_id": name,
    }


class VllmReplica:
    """
    The server. Use as an async context manager; `url` is its address.

    Args:
        python: Interpreter that has vLLM.
    """

    def __init__(self, python: str) -> None:
        self.url = ""
        self._python = python
        self._plan: FaultPlan | None = None
        self._numbers = itertools.count(1)
        self._run = f"demo-{os.getpid()}"
        self._process: asyncio.subprocess.Process | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def hint(self) -> str:
        """How to spoil an answer by hand: what to put into a request."""
        return """put into a request: "vllm_xargs": {"guard_fault": "noise", "guard_fault_onset": 60}"""

    def arm(self, plan: FaultPlan) -> None:
        """Spoil the next request."""
        self._plan = plan

    def disarm(self) -> None:
        """Spoil nothing more."""
        self._plan = None

    async def heal(self) -> None:
        """Nothing is left to heal: every request has a part of the prefix cache to itself."""

    def fields(self) -> dict[str, Any]:
        """What the next request must carry."""
        name = f"{self._run}-{next(self._numbers)}"
        fields: dict[str, Any] = {"cache_salt": name}
        if self._plan is not None:
            fields["vllm_xargs"] = order_of(self._plan, name)
        return fields

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="specdec-guard-demo-")
        port = free_port()
        command = ("-m", "guard.backend.testbed", "serve", "--configuration", CONFIGURATION, "--port", str(port))
        with self._log.open("wb") as out:
            self._process = await asyncio.create_subprocess_exec(
                self._python, *command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        self.url = f"http://127.0.0.1:{port}"
        try:
            await self._ready(time.monotonic() + READY_SECONDS)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    @property
    def _log(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "vllm.log"

    async def _ready(self, deadline: float) -> None:
        assert self._process is not None
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            while self._process.returncode is None and time.monotonic() < deadline:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{self.url}/health")).status_code == 200:
                        return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), _POLL_SECONDS)
        said = self._log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS:]
        raise SetupError(f"vLLM did not start:\n{said}")

    async def _end(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            # The test bed ends vLLM and all its processes on this signal.
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._folder is not None:
            self._folder.cleanup()
