"""`recording` in the configuration: what a guard saw can be run through a backtest."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from guard.config import Config, Listen, UpstreamSettings
from guard.lab.cases import read_cases, run_case
from guard.lab.replay import receive
from guard.lab.tape_player import TapePlayer, load
from guard.observe.recorder import RecorderSettings
from guard.server.run import running_guard
from tests.unit.lab.streams import corpus, judge


@pytest.mark.parametrize(("prompts", "asked"), [(False, ""), (True, "replay")])
async def test_recorded_traffic_gives_the_verdicts_it_was_given(tmp_path: Path, prompts: bool, asked: str) -> None:
    recording = RecorderSettings(folder=str(tmp_path / "rec"), healthy=1.0, text="full", prompts=prompts)
    async with TapePlayer() as player, httpx.AsyncClient(trust_env=False) as client:
        config = Config(
            upstreams=[UpstreamSettings(url=player.url, engine="vllm")],
            listen=Listen(port=0),
            admin=Listen(port=0),
            recording=recording,
        )
        async with running_guard(config, judge(tmp_path)) as running:
            for one in load(corpus(tmp_path)):
                player.insert(one)
                await receive(client, running.url, one)
    cases = list(read_cases(tmp_path / "rec" / "exchanges.jsonl"))
    assert {case.kind for case in cases} == {"healthy", "garbled"}
    for case in cases:
        result = run_case(judge(tmp_path), case)
        assert result.acted == (case.kind == "garbled"), case.id
        if result.acted:
            assert result.onset == case.first_bad_token
    assert "harbour" in json.dumps([case.chunks for case in cases])
    assert {case.prompt for case in cases} == {asked}


async def test_nothing_is_recorded_unless_asked_for(tmp_path: Path) -> None:
    config = Config(upstreams=[UpstreamSettings(url="http://127.0.0.1:9")], listen=Listen(port=0), admin=Listen(port=0))
    async with running_guard(config, judge(tmp_path)) as running:
        assert running.guard.recorder is None
