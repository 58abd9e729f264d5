"""guard.backend.vllm.plugin in a real server: patched, and refused by a vLLM with a renamed hook."""

from __future__ import annotations

import importlib.util
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from guard.backend.testbed.configurations import tiny
from guard.backend.testbed.pool import ServerPool
from guard.backend.testbed.server import VllmServer
from tests.vllm.backend.vllm.load import ASK

RENAMED = "_new_completion_output"
FOLDERS = ("", "v1", "v1/engine")


def with_renamed_hook(folder: Path) -> Path:
    """A vLLM of links to the installed one, save that one method has another name where it is defined and called."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    real = Path(spec.origin).parent
    for part in FOLDERS:
        here = folder / "vllm" / part
        here.mkdir()
        for entry in (real / part).iterdir():
            if f"{part}/{entry.name}".strip("/") not in (*FOLDERS, "v1/engine/output_processor.py"):
                (here / entry.name).symlink_to(entry)
    source = (real / "v1/engine/output_processor.py").read_text()
    assert source.count(RENAMED) == 2
    (folder / "vllm/v1/engine/output_processor.py").write_text(source.replace(RENAMED, "_make_completion"))
    return folder


@pytest.fixture(scope="module")
def unpatched(vllm_servers: ServerPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    options = tiny("draft", faults=True)
    folder = with_renamed_hook(tmp_path_factory.mktemp("renamed"))
    environment = {**options.env, "PYTHONPATH": str(folder)}
    options = msgspec.structs.replace(options, env=environment)
    yield vllm_servers.get(options)
    vllm_servers.end(options)


async def answers(server: VllmServer, salt: str, *, asked: bool) -> list[bytes]:
    """Raw bodies, one request after the other, each on a prefix cache of its own: nothing else changes the sums."""
    prompt = "def read(path):\n    return open(path).read()\n"
    common: dict[str, Any] = {"model": "tiny", "temperature": 0, "cache_salt": salt, **(ASK if asked else {})}
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    chat = {"messages": [{"role": "user", "content": prompt}], **common}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/completions", {"prompt": prompt, "max_tokens": 60, "return_token_ids": True, **streamed, **common}),
        ("/completions", {"prompt": prompt, "max_tokens": 60, "logprobs": 2, "stop": ["e"], **streamed, **common}),
        ("/completions", {"prompt": prompt, "max_tokens": 9, **common}),
        ("/chat/completions", {"max_tokens": 60, "return_token_ids": True, "logprobs": True, **streamed, **chat}),
        ("/chat/completions", {"max_tokens": 60, "stream": True, **chat}),
        ("/chat/completions", {"max_tokens": 60, **chat}),
        ("/responses", {"input": prompt, "max_output_tokens": 30, "stream": True, **common}),
    ]
    found: list[bytes] = []
    async with aiohttp.ClientSession() as session:
        for path, body in bodies:
            async with session.post(f"{server.url}/v1{path}", json=body) as reply:
                assert reply.status == 200, await reply.text()
                found.append(await reply.read())
    return found


def events(body: bytes) -> list[dict[str, Any]]:
    """The objects of a stream, or the one that is the answer."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n")]
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def has_field(body: bytes) -> bool:
    """Whether the plugin's field is there; vLLM's own totals stand in the whole answer, or where there is no choice."""
    for event in events(body):
        choices = event.get("choices", [])
        if any("metrics" in choice for choice in choices):
            return True
        part = event.get("type", "").endswith(".delta") or (choices and "message" not in choices[0])
        if part and "usage" not in event and event.get("metrics"):
            return True
    return False


def joined(body: bytes) -> tuple[str, list[int], dict[str, list[str]]]:
    """
    What an answer says, however it was cut: its text, its token ids, and each other series by its name.

    A chunk has one token or several, as the steps of that run came. So each series is joined by itself: side by side,
    they would tell where one chunk ends.
    """
    text: list[str] = []
    ids: list[int] = []
    rest: dict[str, list[str]] = defaultdict(list)
    for event in events(body):
        for choice in event.get("choices", ()):
            text.append(choice.get("text") or choice.get("delta", choice.get("message", {})).get("content") or "")
            ids += choice.get("token_ids") or ()
            logprobs = choice.get("logprobs") or {}
            for name in ("content", "token_logprobs", "tokens", "text_offset"):
                rest[name] += [json.dumps(each) for each in logprobs.get(name) or ()]
            for name in ("finish_reason", "stop_reason"):
                rest[name] += [json.dumps(choice[name])] if choice.get(name) else []
        if event.get("type") == "response.output_text.delta":
            text.append(event["delta"])
        rest["usage"] += [json.dumps(event["usage"])] if event.get("usage") else []
    return "".join(text), ids, rest


async def test_a_renamed_hook_is_refused_by_name_and_vllm_serves_on(unpatched: VllmServer) -> None:
    log = unpatched.log_text()
    assert "guard: REFUSED to patch vLLM 0.32.0" in log
    missing = "vllm.v1.engine.output_processor:RequestState._new_completion_output"
    assert f"outputs.new_completion: there is no {missing}" in log
    assert "guard: exact acceptance" not in log
    assert unpatched.alive
    for body in await answers(unpatched, "a", asked=True):
        assert not has_field(body)


async def test_tokens_text_and_usage_are_those_of_a_vllm_without_the_plugin(
    unpatched: VllmServer, tiny_draft_server: VllmServer
) -> None:
    stock = await answers(unpatched, "b", asked=False)
    asked = await answers(tiny_draft_server, "c", asked=True)
    unasked = await answers(tiny_draft_server, "d", asked=False)
    assert "guard: exact acceptance" in tiny_draft_server.log_text()
    for number, bodies in enumerate(zip(stock, asked, unasked, strict=True)):
        first, second, third = (joined(body) for body in bodies)
        assert first == second == third, number
        assert [has_field(body) for body in bodies] == [False, True, False], number
