"""Capabilities are believed only when they were seen; a backend that lacks one is told so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from guard.server import cache_probes, probes
from guard.server.capabilities import AiohttpAsker
from guard.server.probes import Asker, Backend, Check, State, identify, read_scores, score_request
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
