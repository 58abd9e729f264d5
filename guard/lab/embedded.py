"""The embedded backend as its parent sees it: start it, know its address, end it for certain."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from guard.errors import SetupError
from guard.lab.draft import DEFAULT_DRAFT, ensure_draft, load_recipe
from guard.lab.models import SMOLLM2_135M, ensure_model
from guard.lab.progress import Progress

#: Name under which clients see the target.
MODEL_NAME = "SmolLM2-135M-Instruct"
_STOP_SECONDS = 3.0
_ORDER_SECONDS = 30.0
_LOG_TAIL_BYTES = 2000


@dataclass(frozen=True)
class EmbeddedOptions:
    """
    How to run the embedded backend.

    Args:
        draft: Name of a draft recipe; None runs without a draft model.
        num_speculative_tokens: Draft depth; None takes the recipe's. Unit: tokens.
        ngram: llama.cpp n-gram speculation to use instead of a draft model, such as "simple"; it
            chooses its depth itself.
        num_slots: Generations that can run at once.
        context_tokens: Context of each slot. Unit: tokens.
        threads: Compute threads; None takes one less than there are cores, at least one and at most
            four. llama.cpp's threads wait for each other by spinning, so that one core wanted by
            another process stalls them all: a hundredfold slowdown was measured.
        port: Loopback port; 0 takes a free one.
        allow_faults: Let `EmbeddedBackend.order` corrupt the KV cache of running requests.
        keep_files: Folder for the log and the saved slots, kept afterwards; None: a temporary one.
        start_seconds: How long it may take to be ready, fetching the model not counted.
    """

    draft: str | None = DEFAULT_DRAFT
    num_speculative_tokens: int | None = None
    ngram: str | None = None
    num_slots: int = 2
    context_tokens: int = 4096
    threads: int | None = None
    port: int = 0
    allow_faults: bool = False
    keep_files: Path | None = None
    start_seconds: float = 60.0


class EmbeddedBackend:
    """
    A llama.cpp server with a target and a draft model, in a child process.

    Use as an async context manager. The child ends with the block, with this process, and when the
    start fails or is cancelled.

    Args:
        options: How to run it.
        progress: Where fetching and making the models is reported.
    """

    def __init__(self, options: EmbeddedOptions | None = None, progress: Progress | None = None) -> None:
        self.options = options or EmbeddedOptions()
        self.url = ""
        self.num_speculative_tokens = 0
        self._progress = progress or Progress()
        self._process: asyncio.subprocess.Process | None = None
        self._folder: Path | None = None
        self._ordering = asyncio.Lock()

    @property
    def folder(self) -> Path:
        """Where the log stands; only while it runs, or when `keep_files` was given."""
        if self._folder is None:
            raise RuntimeError("the embedded backend was not started")
        return self._folder

    @property
    def slots_folder(self) -> Path:
        """Where the server saves slots and restores them from."""
        return self.folder / "slots"

    @property
    def log_file(self) -> Path:
        """What the child wrote to its standard error."""
        return self.folder / "llama.log"

    @property
    def pid(self) -> int | None:
        """Process id of the child while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
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

    async def order(self, order: dict[str, Any]) -> dict[str, Any]:
        """
        Have the child do something to its own memory.

        Args:
            order: See `guard.lab.kv_memory.carry_out`.

        Returns:
            The child's answer.

        Raises:
            SetupError: It refused, failed, or has gone.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise SetupError("the embedded backend is not running")
        async with self._ordering:
            try:
                process.stdin.write(json.dumps(order).encode() + b"\n")
                await process.stdin.drain()
                line = await asyncio.wait_for(process.stdout.readline(), _ORDER_SECONDS)
                answer: dict[str, Any] = json.loads(line)
            except (OSError, ValueError, TimeoutError) as error:
                raise SetupError(f"the embedded backend did not answer an order{self._log_tail()}") from error
        if "error" in answer:
            raise SetupError(f"the embedded backend refused: {answer['error']}")
        return answer

    async def _start(self) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise SetupError("the embedded backend needs xllamacpp: pip install 'specdec-guard[demo]'")
        keep = self.options.keep_files
        self._folder = Path(tempfile.mkdtemp(prefix="specdec-guard-")) if keep is None else keep
        self.slots_folder.mkdir(parents=True, exist_ok=True)
        arguments = await asyncio.to_thread(self._prepare)
        with self.log_file.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "guard.lab.llama_process", *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                env=_child_environment(),
            )  # fmt: skip
        await self._wait_until_ready(self._process)

    def _prepare(self) -> list[str]:
        """Get the models and make the child's command line; blocking."""
        options = self.options
        model = ensure_model(SMOLLM2_135M, self._progress)
        arguments = ["--model", str(model), "--alias", MODEL_NAME, "--port", str(options.port)]
        arguments += ["--n-parallel", str(options.num_slots), "--ctx", str(options.context_tokens)]
        arguments += ["--slot-save-path", str(self.slots_folder)]
        arguments += ["--threads", str(options.threads or _default_threads())]
        depth = options.num_speculative_tokens or 0
        if options.ngram is not None:
            depth = 0
            arguments += ["--ngram", options.ngram]
        elif options.draft is not None:
            recipe = load_recipe(options.draft)
            depth = depth or recipe.num_speculative_tokens
            arguments += ["--draft", str(ensure_draft(recipe, model, self._progress)), "--k", str(depth)]
        self.num_speculative_tokens = depth
        return arguments + (["--allow-faults"] if options.allow_faults else [])

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), self.options.start_seconds)
        except TimeoutError as error:
            raise SetupError(
                f"the embedded backend was not ready in {self.options.start_seconds:g} s{self._log_tail()}"
            ) from error
        if not line:
            code = await process.wait()
            raise SetupError(f"the embedded backend ended with code {code} at start{self._log_tail()}")
        self.url = json.loads(line)["url"]

    async def _end(self) -> None:
        """End the child and remove its files, whatever cancels this meanwhile."""
        process, self._process = self._process, None
        try:
            if process is not None:
                await _stop(process)
        finally:
            if self.options.keep_files is None and self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _log_tail(self) -> str:
        try:
            tail = self.log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""
        return f"; its log ends with:\n{tail}" if tail else "; its log is empty"


def _default_threads() -> int:
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores - 1, 4))


def _child_environment() -> dict[str, str]:
    """This environment, in which the child finds the same guard package as this process."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, others] if others else [root])}


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Close its input, which ends it; kill it if that takes too long; reap it in any case."""
    try:
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # A second cancellation must not leave a zombie.
            await asyncio.shield(process.wait())
