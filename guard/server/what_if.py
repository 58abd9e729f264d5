"""
Runs a policy with other thresholds over recorded streams, in a process of its own.

A back-test takes all of a core for seconds; in this process it would delay every stream. One runs at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import re
import sys
from pathlib import Path

import msgspec
import yaml

from guard.errors import ConfigError
from guard.policy.written import Written

#: Longest that a try may take. Unit: seconds.
TIMEOUT = 120.0
#: What is run; it reads a Task on standard input and writes JSON on standard output.
MODULE = "guard.lab.what_if"
#: Largest answer that is read. Unit: bytes.
MAX_ANSWER = 8 * 1024 * 1024
#: What `guard serve --workers` puts behind the name of each worker's recordings.
_WORKER = re.compile(r"-worker\d+$")


class Task(msgspec.Struct, frozen=True):
    """
    What the process is told.

    Args:
        policy: The policy in force, as YAML.
        edited: The other one.
        files: Files of cases, newest first.
        baseline: Healthy acceptance probability of this deployment, if known.
    """

    policy: str
    edited: str
    files: list[str]
    baseline: float | None = None


class WhatIf:
    """
    Starts the process, and keeps others waiting away from it.

    Args:
        folder: Of the recorder's files, if there is one.
        name: First part of their names; where this is one of several workers, the files of the others count too.
        cases: Further files of cases.
    """

    def __init__(self, folder: str | None, name: str, cases: list[str]) -> None:
        self._folder = folder
        self._name = _WORKER.sub("", name)
        self._cases = cases
        self._running = asyncio.Lock()

    def files(self) -> list[Path]:
        """The files there are: those of the settings, then recordings, newest first."""
        found = [Path(case) for case in self._cases if Path(case).is_file()]
        if self._folder is not None:
            recorded: list[tuple[float, Path]] = []
            for path in Path(self._folder).glob(f"{glob.escape(self._name)}*.jsonl"):
                with contextlib.suppress(FileNotFoundError):  # the recorder has just let go of it
                    recorded.append((path.stat().st_mtime, path))
            found += [path for _, path in sorted(recorded, reverse=True)]
        return found

    async def run(self, policy: Written, edited: Written, baseline: float | None) -> bytes:
        """
        Try both policies.

        Args:
            policy: The one in force, as written.
            edited: The other one.
            baseline: Healthy acceptance probability, if known.

        Returns:
            JSON, from guard.lab.what_if.

        Raises:
            ConfigError: The edited policy is wrong, there is nothing to try it on, or it took too long.
        """
        if self._running.locked():
            raise ConfigError("another try is running; wait for it")
        async with self._running:
            files = await asyncio.to_thread(self.files)
            if not files:
                raise ConfigError("nothing is recorded to try it on; set recording.folder, or dashboard.cases")
            task = Task(_yaml(policy), _yaml(edited), [str(path) for path in files], baseline)
            return await self._child(msgspec.json.encode(task))

    async def _child(self, task: bytes) -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=MAX_ANSWER,
        )  # fmt: skip
        try:
            async with asyncio.timeout(TIMEOUT):
                out, err = await process.communicate(task)
        except TimeoutError as error:
            raise ConfigError(
                f"the try took longer than {TIMEOUT:g} seconds; record less, or use guard backtest"
            ) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            raise ConfigError(err.decode(errors="replace").strip().removeprefix("guard: ") or "the try failed")
        return out


def _yaml(source: Written) -> str:
    return yaml.safe_dump(source, sort_keys=False, allow_unicode=True)
