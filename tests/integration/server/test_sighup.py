"""SIGHUP to a real process: policies are read again, the configuration is not, and the log says so."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.integration.server.fleet import PATIENCE


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_configuration_that_has_changed_needs_a_restart_and_sighup_says_so(
    tmp_path: Path, workers: str
) -> None:
    file = tmp_path / "guard.yaml"
    text = "upstreams: [{url: 'http://127.0.0.1:9'}]\nlisten: {port: 0}\nadmin: {port: 0}\ncapabilities: assume\n"
    file.write_text(text)
    argv = [sys.executable, "-m", "guard", "serve", "--config", str(file), "--workers", workers]
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    out = process.stdout

    async def until(said: str) -> list[str]:
        lines = [""]
        while said not in lines[-1]:
            lines.append((await out.readline()).decode())
            assert lines[-1], f"it ended before it said {said!r}: {lines}"
        return lines

    try:
        async with asyncio.timeout(PATIENCE):
            await until("clients connect to")
            process.send_signal(signal.SIGHUP)
            before = await until("policies reloaded")
            if workers == "2":
                before += await until("policies reloaded")
            file.write_text(f"{text}log: {{level: debug}}\n")
            process.send_signal(signal.SIGHUP)
            told = (await until("restart needed"))[-1]
            process.terminate()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "restart needed" not in "".join(before)
    assert str(file) in told
