"""
`vllm serve` as a child process on a free loopback port: started, awaited, and ended with all its processes.

The interpreter is the one that runs this, so it must be that of the vLLM environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

import aiohttp
import msgspec

from guard.backend.testbed import warm
from guard.errors import SetupError
from guard.lab.ports import free_port

#: What starts vLLM.
USUAL_PROGRAM = ("-m", "guard.backend.testbed.launch")
_POLL_SECONDS = 0.25
_GRACE_SECONDS = 20.0
_LOG_LINES = 40

#: What keeps vLLM on this machine, quiet and small.
ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # Bound to a core, every server would share the same one; two threads on shared cores wait for each other.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        # The n-gram drafter's compiled code; more threads than one spin against each other.
        "NUMBA_NUM_THREADS": "1",
        "VLLM_CONFIGURE_LOGGING": "1",
        "PYTHONUNBUFFERED": "1",
    }
)


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """
    One server.

    Args:
        model: Folder of the target model.
        name: Model name that clients use.
        speculative: vLLM's `speculative_config`; None: no speculation.
        dtype: Of weights and cache. Processors without bf16 arithmetic are several times faster in float32.
        max_model_len: Longest sequence. Unit: tokens.
        max_num_seqs: Most requests in one step.
        block_size: Rows of a cache block. Unit: tokens. Small, so that short prompts fill blocks and are found again.
        args: Further arguments of `vllm serve`.
        env: Further environment variables.
        port: 0: any free one.
        ready_seconds: Deadline for the start.
        program: What the interpreter runs; gets the arguments of `vllm serve`.
    """

    model: Path
    name: str = "model"
    speculative: dict[str, Any] | None = None
    dtype: str = "float32"
    max_model_len: int = 2048
    max_num_seqs: int = 32
    block_size: int = 32
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    port: int = 0
    ready_seconds: float = 300.0
    program: tuple[str, ...] = USUAL_PROGRAM

    def arguments(self, port: int) -> list[str]:
        """The command line of `vllm serve` after its name."""
        words = [str(self.model), "--served-model-name", self.name, "--host", "127.0.0.1", "--port", str(port)]
        words += ["--max-model-len", str(self.max_model_len), "--max-num-seqs", str(self.max_num_seqs)]
        words += ["--block-size", str(self.block_size), "--dtype", self.dtype, "--enforce-eager"]
        if self.speculative is not None:
            config = msgspec.json.encode(self.speculative).decode()
            words += ["--speculative-config", config, "--per-request-spec-decode-metrics", "detailed"]
        return [*words, *self.args]

    @property
    def may_be_forked(self) -> bool:
        """Whether a process that has vLLM imported can become this server: other variables may be read by imports."""
        usual = self.program == USUAL_PROGRAM and warm.one_front_end(self.args)
        return usual and all(name.startswith("GUARD_") for name in self.env)

    def key(self) -> bytes:
        """Equal for servers that are the same."""
        return msgspec.json.encode(msgspec.to_builtins(self, builtin_types=(), enc_hook=str), order="sorted")


class Child(Protocol):
    """What is used of `asyncio.subprocess.Process`."""

    @property
    def pid(self) -> int:
        """Process id."""

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""

    async def wait(self) -> int:
        """Return when it has ended."""

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal."""


class ServerHome(Protocol):
    """What starts servers faster than an interpreter of their own does: `home.Home`."""

    def start(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> Child:
        """Start `vllm serve` with these arguments, all of its environment, and a file for its output."""


class VllmServer:
    """
    A running server; an async context manager.

    Entering returns when `/health` answers; leaving ends the whole process group.

    Args:
        options: What to start.
        log: File for its output; by default one in a temporary folder, removed with the server if all went well.
        home: What it is forked from if it may be; by default it has an interpreter of its own.
    """

    def __init__(self, options: ServerOptions, log: Path | None = None, home: ServerHome | None = None) -> None:
        self.options = options
        self.started_in_seconds = 0.0
        self._port = options.port
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._log = log
        self._home = home if options.may_be_forked else None
        self._process: Child | None = None

    @property
    def url(self) -> str:
        """Base address, without `/v1`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def log_path(self) -> Path:
        """Where its output goes."""
        if self._log is None:
            raise RuntimeError("the server was not started")
        return self._log

    @property
    def pid(self) -> int:
        """Process id of the API server, which leads the process group."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the API server's process runs."""
        return self._process is not None and self._process.returncode is None

    def log_text(self) -> str:
        """All that it has written so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    async def wait(self) -> None:
        """Return when the API server has ended."""
        if self._process is not None:
            await self._process.wait()

    async def __aenter__(self) -> Self:
        if self._log is None:
            self._folder = tempfile.TemporaryDirectory(prefix="specdec-guard-vllm-")
            self._log = Path(self._folder.name) / "server.log"
        self._port = self.options.port or free_port()
        started = time.monotonic()
        self._process = await self._start(self._log)
        try:
            await self._ready(started + self.options.ready_seconds)
        except BaseException:
            await self._end()
            raise
        self.started_in_seconds = time.monotonic() - started
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()
        if self._folder is not None:
            self._folder.cleanup()

    async def _start(self, log: Path) -> Child:
        arguments = self.options.arguments(self._port)
        environ = {**os.environ, **ENVIRONMENT, **self.options.env}
        if self._home is not None:
            # The first one waits for the home's imports; elsewhere, so that this loop does not.
            return await asyncio.to_thread(self._home.start, arguments, environ, log)
        with log.open("wb") as out:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *self.options.program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environ,
                start_new_session=True,
            )

    async def _ready(self, deadline: float) -> None:
        process = self._process
        assert process is not None
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while process.returncode is None:
                if time.monotonic() > deadline:
                    raise SetupError(f"vLLM was not ready after {self.options.ready_seconds:.0f} s:\n{self._tail()}")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{self.url}/health") as reply:
                        if reply.status == 200:
                            return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _POLL_SECONDS)
        raise SetupError(f"vLLM ended with status {process.returncode} before it was ready:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self.log_text().splitlines()[-_LOG_LINES:])

    async def _end(self) -> None:
        """End the group: politely first, so that shared memory is given back."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
        # The engine core and its workers are of the same group, and may outlive the API server.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        while group_members(process.pid):  # noqa: ASYNC110 - the kernel has no event for the end of a group
            await asyncio.sleep(_POLL_SECONDS / 10)


def group_members(group: int) -> list[int]:
    """Processes of a group that are alive, zombies left out; from `/proc`."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                members.append(int(stat.parent.name))
    return members
