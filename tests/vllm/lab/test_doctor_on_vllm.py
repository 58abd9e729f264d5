"""`guard doctor` proves every capability of a real vLLM."""

from __future__ import annotations

from guard.backend.testbed.server import VllmServer
from guard.lab.doctor import HttpxAsker, diagnose
from guard.server.probes import State


async def test_a_real_vllm_has_every_capability(smollm2_draft_server: VllmServer) -> None:
    async with HttpxAsker(smollm2_draft_server.url) as asker:
        found = await diagnose(smollm2_draft_server.url, asker)
    assert found.backend.engine == "vllm"
    assert found.backend.version.startswith("0.")
    assert {check.name: check.state for check in found.checks if check.state is not State.YES} == {}, found.as_text()
