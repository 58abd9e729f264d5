"""The admin port: health, readiness, metrics, records."""

from __future__ import annotations

from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import BAD, DONE, FULL, chunk, policy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def test_health_ready_policies() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        async with client.get(running.admin_url + "/healthz") as response:
            assert (await response.json())["status"] == "ok"
        async with client.get(running.admin_url + "/readyz") as response:
            assert response.status == 200
        running.guard.draining = True
        async with client.get(running.admin_url + "/readyz") as response:
            assert response.status == 503
        async with client.get(running.admin_url + "/guard/policies") as response:
            assert (await response.json())[0]["name"] == "test"


async def test_a_rescued_request_can_be_looked_up_and_is_counted() -> None:
    def script(n: int) -> list[bytes | float | None]:
        return [OK_SSE, chunk(BAD), None] if n == 1 else [OK_SSE, chunk("Fine", finish="stop"), DONE]

    async with backend(script) as upstream, guarded(upstream.url, policy=policy(hold=FULL)) as (running, client):
        headers = {"X-Request-Id": "look-me-up"}
        async with client.post(running.url + "/v1/chat/completions", json=CHAT, headers=headers) as response:
            await response.read()
        async with client.get(running.admin_url + "/guard/requests/look-me-up") as response:
            record = await response.json()
        assert record["outcome"] == "rescued"
        assert [a["verdict"] for a in record["attempts"]] == ["retry", "pass"]
        assert record["attempts"][0]["accepted"] == [0]
        assert record["attempts"][0]["reason"]
        async with client.get(running.admin_url + "/guard/requests/other") as response:
            assert response.status == 404
        async with client.get(running.admin_url + "/guard/requests") as response:
            assert [r["request_id"] for r in await response.json()] == ["look-me-up"]
        async with client.get(running.admin_url + "/metrics") as response:
            text = await response.text()
        assert 'guard_exchanges_total{outcome="rescued"} 1.0' in text
        assert 'guard_verdicts_total{action="retry",kind="garbled"} 1.0' in text
        assert "guard_aborts_sent_total 1.0" in text
        assert "guard_exchanges_in_flight 0.0" in text
