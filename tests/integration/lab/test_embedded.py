"""guard.lab.embedded: the real backend answers as stock llama.cpp does, and ends for certain."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from guard.errors import SetupError
from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions
from tests.integration.lab.client import chat_body, stream, text_of

pytestmark = pytest.mark.embedded

BICYCLE = "Explain how a bicycle stays upright, in a few paragraphs."
SEASONS = "What causes the seasons on Earth? Answer for a ten-year-old."


async def call(url: str, body: dict[str, Any] | None = None) -> Any:
    async with aiohttp.ClientSession() as session:
        request = session.get(url) if body is None else session.post(url, json=body)
        async with request as reply:
            assert reply.status == 200, await reply.text()
            return await (reply.json() if "json" in reply.content_type else reply.text())


async def test_the_stock_routes_are_there(embedded: Any) -> None:
    url = embedded.url
    assert await call(f"{url}/health") == {"status": "ok"}
    assert (await call(f"{url}/props"))["total_slots"] == 2
    assert [slot["id"] for slot in await call(f"{url}/slots")] == [0, 1]
    assert "llamacpp:tokens_predicted_total" in await call(f"{url}/metrics")
    assert (await call(f"{url}/v1/models"))["data"][0]["id"] == "SmolLM2-135M-Instruct"
    assert (await call(f"{url}/tokenize", {"content": "<|im_end|>", "parse_special": True}))["tokens"] == [2]
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "well"}]
    prompt = (await call(f"{url}/apply-template", {"messages": messages}))["prompt"]
    assert prompt.endswith("<|im_start|>assistant\nwell")


@pytest.mark.parametrize("route", ["chat/completions", "completions"])
async def test_both_routes_stream_their_draft_counters(embedded: Any, route: str) -> None:
    body = chat_body(BICYCLE, max_tokens=24)
    if route == "completions":
        body = {**body, "prompt": "The sky is blue because"}
    chunks = await stream(f"{embedded.url}/v1/{route}", body)
    timings = [chunk["timings"] for chunk in chunks if "timings" in chunk]
    assert 0 < timings[-1]["predicted_n"] <= 24
    assert 0 < timings[-1]["draft_n_accepted"] <= timings[-1]["draft_n"]
    assert all(a["draft_n"] <= b["draft_n"] for a, b in pairwise(timings[1:]))
    assert text_of(chunks)


async def test_greedy_text_does_not_depend_on_cache_slot_or_company(embedded: Any) -> None:
    url = f"{embedded.url}/v1/chat/completions"

    async def answer(prompt: str, **fields: Any) -> str:
        return text_of(await stream(url, chat_body(prompt, max_tokens=32, **fields)))

    fresh = await answer(BICYCLE, cache_prompt=False)
    other = await answer(SEASONS, cache_prompt=False)
    assert await answer(BICYCLE, cache_prompt=True) == fresh
    assert await answer(BICYCLE, cache_prompt=True, id_slot=1) == fresh
    together = await asyncio.gather(answer(BICYCLE, cache_prompt=False), answer(SEASONS, cache_prompt=False))
    assert together == [fresh, other]


async def test_a_bypassed_cache_recomputes_the_whole_prompt(embedded: Any) -> None:
    url = f"{embedded.url}/v1/chat/completions"
    for bypass in (False, True):
        chunks = await stream(url, chat_body(BICYCLE, max_tokens=2, cache_prompt=not bypass, id_slot=0))
        if bypass:
            assert chunks[-1]["timings"]["cache_n"] == 0
            assert chunks[-1]["timings"]["prompt_n"] > 20


async def test_a_partial_answer_is_continued_without_an_echo(embedded: Any) -> None:
    url = f"{embedded.url}/v1/chat/completions"
    whole = text_of(await stream(url, chat_body(BICYCLE, max_tokens=40, cache_prompt=False)))
    cut = whole.index(" ", 60)
    body = chat_body(BICYCLE, max_tokens=12, cache_prompt=False)
    body["messages"].append({"role": "assistant", "content": whole[:cut]})
    rest = text_of(await stream(url, body))
    assert rest
    assert whole[cut:].startswith(rest)


async def test_a_disconnect_frees_the_slot(embedded: Any) -> None:
    body = chat_body(BICYCLE, max_tokens=2000, ignore_eos=True)
    async with aiohttp.ClientSession() as session:
        reply = await session.post(f"{embedded.url}/v1/chat/completions", json=body)
        await reply.content.readany()
        reply.close()
    deadline = time.monotonic() + 10
    while any(slot["is_processing"] for slot in await call(f"{embedded.url}/slots")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_failed_start_quotes_the_engines_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    monkeypatch.setattr("guard.lab.embedded.ensure_model", lambda *_: broken)
    with pytest.raises(SetupError, match=r"at start(.|\n)*broken\.gguf"):
        async with EmbeddedBackend(EmbeddedOptions(draft=None)):
            pass


PARENT = """
import signal
# A shell's background jobs begin with this signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
import asyncio, sys
from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions
async def main():
    async with EmbeddedBackend(EmbeddedOptions(draft=None, context_tokens=512)) as backend:
        print(backend.pid, backend.folder, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_no_orphan_however_the_parent_ends(how: signal.Signals) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert parent.stdout is not None
    pid, folder = (await asyncio.wait_for(parent.stdout.readline(), 120)).decode().split()
    os.kill(parent.pid, how)
    await asyncio.wait_for(parent.wait(), 30)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, f"child {pid} outlived its parent"
        await asyncio.sleep(0.05)
    if how == signal.SIGINT:
        assert not Path(folder).exists()


def test_the_client_of_these_tests_reads_json() -> None:
    assert text_of([json.loads('{"choices": [{"delta": {"content": "a"}}]}')]) == "a"
