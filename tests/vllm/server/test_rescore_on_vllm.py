"""Re-scoring on a real vLLM: a weak draft is let pass, a fluent answer from a corrupted cache is found."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from guard.backend.testbed.server import VllmServer
from guard.config import AuditSettings, Config, Listen, UpstreamSettings
from guard.policy.judge import Judge
from guard.policy.schema import Confirm, Policy
from guard.rescore import floor
from guard.server.run import Running, running_guard
from guard.shipped import find_policy

PROMPT = "Explain how a bicycle stays upright, and how to learn to ride one, in a few paragraphs."
TOKENS = 150


@contextlib.asynccontextmanager
async def guarded(server: VllmServer, policy: Policy, audit: AuditSettings | None = None) -> AsyncIterator[Running]:
    config = Config(
        upstreams=[UpstreamSettings(url=server.url, engine="vllm")],
        listen=Listen(port=0),
        admin=Listen(port=0),
        audit=audit,
    )
    async with running_guard(config, Judge(policy)) as running:
        yield running


async def ask(url: str, rid: str, *, prompt: str = PROMPT, **xargs: Any) -> tuple[str, str]:
    """The answer's text, and the stream as it came."""
    body: dict[str, Any] = {
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
        "cache_salt": rid,
    }
    if xargs:
        body["vllm_xargs"] = xargs
    async with (
        aiohttp.ClientSession(raise_for_status=True, timeout=aiohttp.ClientTimeout(total=580)) as client,
        client.post(f"{url}/v1/chat/completions", json=body, headers={"x-request-id": rid}) as reply,
    ):
        stream = (await reply.read()).decode()
    lines = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    said = [choice["delta"].get("content") or "" for line in lines for choice in line.get("choices", [])]
    return "".join(said), stream


async def until(condition: Any) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.05)


async def test_a_weak_draft_passes_once_its_cache_is_proven_right_and_a_fluent_corruption_is_found(
    smollm2_draft_server: VllmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "LEAST_TOKENS", 128)
    published = find_policy("published")
    weak = {"guard_fault": "noise", "guard_fault_onset": 1, "guard_fault_layers": "draft"}
    async with guarded(smollm2_draft_server, published) as guard:
        healthy, plain = await ask(guard.url, "healthy-1")
        await ask(guard.url, "alarm", guard_fault_id="alarm", guard_fault_times=9, **weak)
        alarmed = guard.guard.records.get("alarm")
    assert alarmed is not None
    assert alarmed.attempts[0].verdict == "retry"

    policy = msgspec.structs.replace(published, confirm=Confirm(timeout=60.0))
    audit = AuditSettings(share=1, calibrate=1, prefill_per_second=100_000)
    async with guarded(smollm2_draft_server, policy, audit) as guard:
        rescorer = guard.guard.rescorer
        assert rescorer is not None
        text, stream = await ask(guard.url, "healthy-2")
        # What the guard asked for itself is hidden: shape and text are those of a stream without re-scoring.
        assert text == healthy
        assert '"logprobs":null' in plain
        assert stream.count('"logprobs":null') == stream.count('"logprobs"')
        await until(lambda: rescorer.settled)
        text, _ = await ask(guard.url, "weak", guard_fault_id="weak", guard_fault_times=9, **weak)
        record = guard.guard.records.get("weak")
        assert record is not None
        (attempt,) = record.attempts
        assert attempt.confirm is not None
        assert (attempt.confirm.verdict, attempt.verdict, text) == ("cache_right", "pass", healthy)
        assert attempt.confirm.seconds < 60
        donor = "Write a short story about a lighthouse keeper who finds a letter in a bottle."
        await ask(guard.url, "donor", prompt=donor)
        splice = {"guard_fault": "splice", "guard_fault_onset": 60, "guard_fault_id": "fluent"}
        await ask(guard.url, "fluent", **splice)

        def found_out() -> Any:
            record = guard.guard.records.get("fluent")
            assert record is not None
            return record.attempts[0].audit or record.attempts[0].confirm

        await until(lambda: found_out() is not None)
        found = found_out()
        assert found.verdict == "cache_wrong", found
        assert rescorer.charges >= 1
