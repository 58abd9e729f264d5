"""`guard bench` against a backend of recorded streams."""

from __future__ import annotations

import argparse
import asyncio
import json

import pytest

from guard.cli import main
from guard.lab.bench import Side, bench, bench_command, figures, table
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import DONE, chunk

WHOLE: list[bytes | float | None] = [OK_SSE, chunk("One "), 0.01, chunk("two"), 0.01, chunk("", finish="stop"), DONE]
CUT: list[bytes | float | None] = [OK_SSE, chunk("One ")]
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def test_both_sides_are_measured_and_say_the_same() -> None:
    async with backend(lambda _: WHOLE) as upstream:
        sides = await bench(upstream.url, "default", BODY, requests=5, streams=2)
    told = figures(sides)
    for name in ("direct", "guard"):
        assert told[name]["answers"] == 5
        assert told[name]["broken"] == 0
        assert len(sides[name].ttft) == 5
    assert told["same_text"] == 1.0
    assert sides["guard"].texts == ["One two"] * 5
    assert told["added_ttft_ms_p50"] is not None
    assert "100%" in table(told)


async def test_an_answer_that_breaks_off_is_broken() -> None:
    async with backend(lambda _: CUT) as upstream:
        sides = await bench(upstream.url, "observe", BODY, requests=1, streams=1)
    assert len(sides["direct"].broken) == 1
    assert len(sides["guard"].broken) == 1


async def test_the_command_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    async with backend(lambda _: WHOLE) as upstream:
        asked = {"upstream": upstream.url, "model": "m", "policy": "default", "prompt": "hi", "json": True}
        args = argparse.Namespace(**asked, requests=2, streams=1, max_tokens=8)
        assert await asyncio.to_thread(bench_command, args) == 0
    assert json.loads(capsys.readouterr().out)["guard"]["answers"] == 2


@pytest.mark.parametrize("argv", [["--upstream", "nowhere"], ["--upstream", "http://127.0.0.1:9", "--requests", "0"]])
def test_wrong_arguments_are_told(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *argv]) == 2
    assert argv[-2] in capsys.readouterr().err


def test_no_answer_at_all_has_no_medians() -> None:
    told = figures({"direct": Side(), "guard": Side()})
    assert told["added_ttft_ms_p50"] is None
    assert told["same_text"] is None
    assert "-" in table(told)


def test_why_the_guard_did_not_start_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--upstream", "http://127.0.0.1:9", "--policy", "defualt"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("guard: the guard did not start: no shipped policy is called 'defualt'")
    assert said.endswith("did you mean 'default'?\n")
    assert said.count("\n") == 1
