"""Recordings through a real guard, its upstream and its client on loopback."""

from __future__ import annotations

import argparse
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from guard.config import Config, Listen, UpstreamSettings
from guard.errors import ConfigError, SetupError
from guard.lab.cases import run_case
from guard.lab.ports import free_port
from guard.lab.replay import Replayed, described, is_loopback, replay, replay_command
from guard.lab.tape_player import Recorded, load
from guard.server.run import running_guard
from tests.unit.lab.streams import POLICY, UNLIKELY, bad, corpus, good, judge, line, policy_file


async def played(recorded: list[Recorded], folder: Path, **options: Any) -> dict[str, Replayed]:
    if "policy" not in options:
        options["policy"] = policy_file(folder)
    return {one.name: one async for one in replay(recorded, **{"url": None, **options})}


def recordings(folder: Path, *names: str) -> list[Recorded]:
    return [one for one in load(corpus(folder)) if not names or one.name in names]


async def test_a_healthy_recording_arrives_whole(tmp_path: Path) -> None:
    (recorded,) = recordings(tmp_path, "good")
    (one,) = (await played([recorded], tmp_path)).values()
    assert recorded.case is not None
    assert one.client.text == "".join(chunk.text for chunk in recorded.case.chunks)
    assert (one.outcome, one.attempts, one.kind, one.client.ended) == ("healthy", 1, None, True)
    assert one.played_tokens == [120]
    assert one.client.ttft is not None
    assert one.client.ttft <= one.client.seconds


async def test_an_upstream_that_stays_bad_exhausts_the_attempts(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(line("b", bad(200), kind="garbled", first_bad_token=0)))
    (one,) = (await played(load(path), tmp_path)).values()
    assert (one.outcome, one.kind, one.attempts) == ("exhausted", "garbled", 3)
    assert one.client.error
    assert not one.client.ended
    assert "exhausted" in described(one)


async def test_one_that_heals_rescues_the_answer_without_losing_a_character(tmp_path: Path) -> None:
    policy = policy_file(tmp_path, POLICY.replace("from: 3.5", "from: 3.99").replace("hold_at: 0.5", "hold_at: 0.01"))
    (recorded,) = recordings(tmp_path, "found")
    (one,) = (await played([recorded], tmp_path, policy=policy, heals=True)).values()
    assert recorded.case is not None
    assert (one.outcome, one.kind, one.attempts) == ("rescued", "garbled", 2)
    assert one.verdict_token is not None
    assert 80 < one.verdict_token <= 96
    good_part = "".join(chunk.text for chunk in recorded.case.chunks[:20])
    assert one.client.text == good_part
    assert one.client.ended


async def test_live_and_backtest_agree(tmp_path: Path) -> None:
    found = await played(recordings(tmp_path), tmp_path)
    for recorded in recordings(tmp_path):
        assert recorded.case is not None
        name, one = recorded.name, found[recorded.name]
        result = run_case(judge(tmp_path), recorded.case)
        assert (one.kind is not None) == result.acted, name
        if result.acted:
            assert (one.verdict_token, one.onset_token) == (result.token, result.onset), name


async def test_a_pace_is_kept(tmp_path: Path) -> None:
    (one,) = (await played(recordings(tmp_path, "good"), tmp_path, tokens_per_second=400.0)).values()
    assert one.client.seconds >= 0.25  # 120 tokens


async def test_a_guard_that_already_runs(tmp_path: Path) -> None:
    port = free_port()
    config = Config(
        upstreams=[UpstreamSettings(url=f"http://127.0.0.1:{port}")], listen=Listen(port=0), admin=Listen(port=0)
    )
    async with running_guard(config, judge(tmp_path)) as running:
        chosen = recordings(tmp_path, "good", "weak")
        found = await played(chosen, tmp_path, url=running.url, port=port, heals=True)
    assert found["good"].outcome == "healthy"
    assert (found["weak"].kind, found["weak"].outcome) == ("garbled", "exhausted")


async def test_a_guard_with_another_upstream_is_told_so(tmp_path: Path) -> None:
    config = Config(
        upstreams=[UpstreamSettings(url=f"http://127.0.0.1:{free_port()}", engine="vllm")],
        listen=Listen(port=0),
        admin=Listen(port=0),
    )
    async with running_guard(config, judge(tmp_path)) as running:
        with pytest.raises(SetupError, match="make that its only upstream"):
            await played(recordings(tmp_path, "good"), tmp_path, url=running.url, port=free_port())


async def test_no_guard_there(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SetupError, match="cannot reach a guard"):
        await played(recordings(tmp_path, "good"), tmp_path, url=url, port=free_port())


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SetupError, match="cannot listen on"):
            await played(recordings(tmp_path, "good"), tmp_path, port=int(taken.getsockname()[1]))


async def test_other_machines_are_never_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stays on loopback"):
        await played(recordings(tmp_path, "good"), tmp_path, url="http://192.0.2.1:80", port=1)
    with pytest.raises(ConfigError, match=r"--listen: name the port"):
        await played(recordings(tmp_path, "good"), tmp_path, url="http://127.0.0.1:80")


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("http://127.9.9.9", True),
        ("http://localhost.example.org", False),
        ("http://10.0.0.1", False),
        ("127.0.0.1:80", False),
        ("", False),
    ],
)
def test_what_counts_as_loopback(url: str, local: bool) -> None:
    assert is_loopback(url) is local


def sse(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("route", ["chat", "completions"])
def test_a_captured_stream_by_command(route: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
        said = {"text": text} if route == "completions" else {"delta": {"content": text}}
        return {"id": "c", "choices": [{"index": 0, **said, "finish_reason": finish}]}

    path = tmp_path / "one.sse"
    path.write_bytes(sse(chunk("Good "), chunk("evening."), chunk("", "stop")))
    args = argparse.Namespace(
        file=path, url=None, listen=0, policy=policy_file(tmp_path), baseline="0.8", case=[], speed=0.0, heal=False,
        json=True,
    )  # fmt: skip
    assert replay_command(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["outcome"], found["client"]["text"]) == ("one.sse", "healthy", "Good evening.")
    args.json = False
    assert replay_command(args) == 0
    assert "one.sse: healthy" in capsys.readouterr().out
    args.case = ["other"]
    with pytest.raises(ConfigError, match="there is no case 'other' in"):
        replay_command(args)


def test_a_case_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(line(name, good(3), text="redacted")) + "\n" for name in ("found", "other")))
    args = argparse.Namespace(
        file=path, url=None, listen=0, policy=policy_file(tmp_path), baseline=None, case=["other", "fuond"], speed=0.0,
        heal=False, json=False,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"^--case: there is no case 'fuond' in \S*c\.jsonl; did you mean 'found'\?$"):
        replay_command(args)
    assert capsys.readouterr().out == ""
    args.case = ["other"]
    assert replay_command(args) == 0
    said = capsys.readouterr()
    assert said.out.startswith("other (labelled healthy): healthy")
    assert said.err.startswith("guard: the text of 1 of 1 cases is redacted")


async def test_log_probabilities_are_asked_for_judged_and_kept_from_the_client(tmp_path: Path) -> None:
    chunks = good(60)
    told = [[-0.5] * 4] * 30 + [[-6.0] * 4] * 30
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(line("b", chunks, kind="garbled", first_bad_token=120, logprobs=told)))
    (recorded,) = load(path)
    assert recorded.case is not None
    policy = policy_file(tmp_path, UNLIKELY)
    (one,) = (await played([recorded], tmp_path, policy=policy, heals=True)).values()
    assert (one.kind, one.attempts, one.onset_token) == ("garbled", 2, 112)
    assert one.reason == "mean log-probability of the latest 16 tokens is -3.25"
    assert one.verdict_token == run_case(judge(tmp_path, UNLIKELY), recorded.case).token == 128
    (plain,) = (await played([recorded], tmp_path)).values()
    assert (plain.kind, plain.client.text) == (None, "".join(str(text) for text, _ in chunks))
