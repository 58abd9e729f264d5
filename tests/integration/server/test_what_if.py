"""A what-if runs in a process of its own, one at a time, and can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from pathlib import Path

import pytest

from guard.dashboard.edits import Edit, edited
from guard.errors import ConfigError
from guard.policy.written import written
from guard.server import what_if
from guard.server.what_if import WhatIf
from guard.shipped import find_policy

TRACES = str(Path(__file__).parents[2] / "data" / "traces" / "tuning.jsonl.gz")
SOURCE = written(find_policy("text-only"))
OTHER = edited(SOURCE, [Edit(field="hold_at", value=0.4)])


async def test_the_loop_goes_on_meanwhile_and_only_one_runs() -> None:
    tries = WhatIf(None, "", [TRACES])
    running = asyncio.create_task(tries.run(SOURCE, OTHER, None))
    await asyncio.sleep(0)
    with pytest.raises(ConfigError, match="another try"):
        await tries.run(SOURCE, OTHER, None)
    before, children = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert json.loads(await running)["streams"] == 66
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - children
    # The work was done elsewhere.
    assert time.process_time() - before < 0.5 * spent


async def test_one_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(what_if, "TIMEOUT", 0.05)
    tries = WhatIf(None, "", [TRACES])
    with pytest.raises(ConfigError, match="longer than"):
        await tries.run(SOURCE, OTHER, None)
    monkeypatch.setattr(what_if, "TIMEOUT", 60.0)
    assert json.loads(await tries.run(SOURCE, OTHER, None))["stopped"]  # the next one may


async def test_nothing_recorded_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is recorded"):
        await WhatIf(str(tmp_path), "exchanges", []).run(SOURCE, OTHER, None)


async def test_recordings_come_newest_first_after_the_cases(tmp_path: Path) -> None:
    for age, name in enumerate(("exchanges.jsonl", "exchanges.1.jsonl", "other.jsonl")):
        path = tmp_path / name
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    found = WhatIf(str(tmp_path), "exchanges", [TRACES, "/nowhere"]).files()
    assert [path.name for path in found] == ["tuning.jsonl.gz", "exchanges.jsonl", "exchanges.1.jsonl"]


async def test_a_recording_that_has_just_gone_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "odd[1].jsonl").write_text("{}\n")
    (tmp_path / "odd[1].1.jsonl").symlink_to(tmp_path / "gone")  # to the look at it, a file that is not there any more
    assert [path.name for path in WhatIf(str(tmp_path), "odd[1]", []).files()] == ["odd[1].jsonl"]
