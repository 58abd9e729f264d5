"""Capabilities are believed only when they were seen; a backend that lacks one is told so."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import pytest

from guard.server import cache_probes, probes
from guard.server.capabilities import AiohttpAsker, CapabilityCache
from guard.server.probes import Asker, Backend, Check, State, identify, read_scores, score_request
from guard.types import ReplicaId
from tests.integration.server.scripted_engine import engine

Probe = Callable[[Asker, Backend], Awaitable[Check]]


async def chat(asker: Asker, backend: Backend) -> Check:
    return await probes.check_resume(asker, backend, chat=True)


async def completions(asker: Asker, backend: Backend) -> Check:
    return await probes.check_resume(asker, backend, chat=False)


async def check(probe: Probe, **defects: Any) -> Check:
    async with engine(**defects) as scripted, aiohttp.ClientSession() as session:
        asker = AiohttpAsker(session, scripted.url)
        backend = await identify(asker)
        assert backend == Backend("vllm", "1", "m", 512)
        return await probe(asker, backend)


@pytest.mark.parametrize(
    ("probe", "defect"),
    [
        (probes.check_abort, {"aborts": False}),
        (chat, {"continues": False}),
        (completions, {"continues": False}),
        (cache_probes.check_cache_bypass, {"bypasses": False}),
        (probes.check_rescore, {"scores": False}),
        (probes.check_rescore, {"score_shift": -3.0}),
    ],
    ids=["abort", "chat", "completions", "bypass", "no scores", "other scores"],
)
async def test_a_capability_is_proven_where_it_is_and_denied_where_it_is_not(
    probe: Probe, defect: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "ABORT_SECONDS", 0.5)
    assert (await check(probe)).state is State.YES
    denied = await check(probe, **defect)
    assert denied.state is State.NO
    assert denied.remedy


async def test_without_a_prefix_cache_there_is_nothing_to_bypass() -> None:
    found = await check(cache_probes.check_cache_bypass, caches=False, bypasses=False)
    assert found.state is State.YES
    assert "nothing to bypass" in found.detail


async def test_a_drafter_that_looks_its_drafts_up_is_given_something_to_find() -> None:
    found = await check(probes.check_signal, accepts=2, looks_up=True)
    assert (found.state, found.remedy) == (State.YES, "")


async def test_without_acceptance_the_signal_is_not_there() -> None:
    assert (await check(probes.check_signal)).state is State.NO


async def test_a_backend_of_no_known_engine_is_never_credited_with_anything() -> None:
    async with engine() as scripted, aiohttp.ClientSession() as session:
        asker = AiohttpAsker(session, scripted.url + "/none")
        backend = await identify(asker)
        assert backend.engine == "text"
        for probe in (probes.check_abort, chat, cache_probes.check_cache_bypass, probes.check_rescore):
            assert (await probe(asker, backend)).state is not State.YES


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{"prompt_logprobs":[null,{"9":{"logprob":-1}}]}]}'],
)
def test_scores_that_are_not_all_there_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="no log-probabilities"):
        read_scores(body, [1], [2])


def test_scores_are_those_of_the_emitted_tokens() -> None:
    body = b'{"choices":[{"prompt_logprobs":[null,{"2":{"logprob":-1}},{"3":{"logprob":-2},"7":{"logprob":-9}}]}]}'
    assert read_scores(body, [1], [2, 3]) == [-1.0, -2.0]
    asked = score_request("m", [1], [2, 3], "salt")
    assert (asked["prompt"], asked["max_tokens"], asked["cache_salt"], asked["model"]) == ([1, 2, 3], 1, "salt", "m")
    assert "model" not in score_request("", [1], [2], "salt")


ODD: list[Any] = [None, True, 0, -1, 1.5, "x", "", [], {}, [None], [{}], 10**30]
CHOICE = {
    "index": 0, "text": " word and more", "delta": {"content": " word and more"}, "prompt_token_ids": [1, 2],
    "token_ids": [4, 5], "logprobs": {"token_logprobs": [-0.1, -0.2]},
    "prompt_logprobs": [None, {"2": {"logprob": -1}}, {"4": {"logprob": -0.1}}, {"5": {"logprob": -0.2}}],
}  # fmt: skip
GAUGES = (b"vllm:prefix_cache_hits_total 5\n", b"vllm:prefix_cache_hits_total 1e\n", b"\xff",
          b"vllm:num_requests_running NaN\nllamacpp:requests_processing x\n",
          b"vllm:prefix_cache_hits_total Inf\n")  # fmt: skip


class Odd:
    """A backend that answers nearly as an engine does."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._marks = {"/props": {"default_generation_settings": {"n_ctx": 10}, "build_info": "b"}, "/version": {}}
        self._marks["/version"] = {"version": "0.32"} if dice.random() < 0.7 else {}
        if self._marks["/version"]:
            self._marks["/props"] = {}

    def _odd(self, value: Any) -> Any:
        if self._dice.random() < 0.05:
            return self._dice.choice(ODD)
        if isinstance(value, dict):
            return {name: self._odd(part) for name, part in value.items() if self._dice.random() > 0.03}
        return [self._odd(part) for part in value] if isinstance(value, list) else value

    def _said(self, value: Any) -> bytes:
        return b"[" * 5000 if self._dice.random() < 0.03 else json.dumps(self._odd(value)).encode()

    async def get(self, path: str) -> tuple[int, bytes]:
        if path == "/metrics":
            return 200, self._dice.choice(GAUGES)
        return 200, self._said(self._marks.get(path, {"data": [{"id": "m", "max_model_len": 4096}]}))

    async def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        usage = {"prompt_tokens_details": {"cached_tokens": 3}}
        return 200, self._said({"choices": [CHOICE], "usage": usage, "timings": {"cache_n": 3}})

    async def stream(self, path: str, body: Mapping[str, Any], events: int) -> list[bytes]:
        return [*(self._said({"choices": [CHOICE]}) for _ in range(3)), b"[DONE]"]


async def test_no_answer_of_a_backend_ends_the_proving() -> None:
    """What else than the declared errors came would end it for all replicas."""
    cache = CapabilityCache()
    for seed in range(1000):
        await cache.refresh(ReplicaId(f"r{seed}"), Odd(random.Random(seed)))
    assert {found.engine for found in cache.report().values()} >= {"llama.cpp", "vllm"}
