"""A background task that fails is started anew; one that ends, or is cancelled, is over."""

from __future__ import annotations

import asyncio

import pytest

from guard.server.kept import kept


async def test_a_failure_is_told_and_the_task_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    runs: list[int] = []

    async def run() -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            raise KeyError("gone")

    await kept("sweeper", run, again=0.0)
    assert len(runs) == 3
    said = capsys.readouterr().out
    assert said.count("task=sweeper") == 2
    assert "KeyError" in said


async def test_cancelled_it_is_over() -> None:
    begun = asyncio.Event()

    async def run() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(kept("sweeper", run))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
