"""What the dashboard asks the admin port, and what nobody else may."""

from __future__ import annotations

from typing import Any

import aiohttp
import aiohttp.web

from guard.dashboard.assets import SECURITY_HEADERS, assets
from guard.server.dashboard import Dashboard
from guard.server.run import Running
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import BAD, DONE, FULL, chunk, policy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def get(client: aiohttp.ClientSession, running: Running, path: str, status: int = 200) -> Any:
    async with client.get(running.admin_url + path) as response:
        assert response.status == status
        return await response.json()


async def test_the_page_and_its_files_carry_the_headers() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        for path in ("/dashboard", *(f"/dashboard/{name}" for name in assets())):
            async with client.get(running.admin_url + path) as response:
                assert response.status == 200
                assert {name: response.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
                tag = response.headers["ETag"]
            async with client.get(running.admin_url + path, headers={"If-None-Match": tag}) as response:
                assert response.status == 304
        async with client.get(running.admin_url + "/dashboard/") as response:
            assert response.url.path == "/dashboard"
        for path in ("/dashboard/assets.py", "/dashboard/%2e%2e%2fassets.py", "/dashboard/..%5cassets.py"):
            async with client.get(aiohttp.client.URL(running.admin_url + path, encoded=True)) as response:
                assert response.status == 404


async def test_a_rescued_exchange_shows_up_everywhere() -> None:
    def script(n: int) -> list[bytes | float | None]:
        return [OK_SSE, chunk(BAD), None] if n == 1 else [OK_SSE, chunk("Fine", finish="stop"), DONE]

    async with backend(script) as upstream, guarded(upstream.url, policy=policy(hold=FULL)) as (running, client):
        headers = {"X-Request-Id": "look/me up".replace(" ", "-")}
        async with client.post(running.url + "/v1/chat/completions", json=CHAT, headers=headers) as response:
            await response.read()
        history = await get(client, running, "/guard/history?seconds=60")
        assert (history["total"]["rescued"], history["total"]["kind_garbled"]) == (1, 1)
        assert history["replicas"][upstream.url]["total"]["bad"] == 1
        (line,) = await get(client, running, "/guard/requests?notable=1&kind=garbled")
        assert (line["request_id"], line["rule"]) == ("look/me-up", "rejected")
        for other in ("kind=repetition", "replica=none", "outcome=cut", "q=nothing", "model=x"):
            assert await get(client, running, f"/guard/requests?{other}") == []
        detail = await get(client, running, "/guard/requests/look%2Fme-up")
        first, second = detail["attempts"]
        assert first["findings"][0]["signal"]["name"] == "acceptance_rate"
        assert first["suspicions"][-1][1] == 1.0
        assert second["started"] >= first["started"]
        assert (detail["open"], detail["text_kind"]) == (False, None)
        assert detail["rules"]["rejected"]["when"]["signal"] == "acceptance_rate"
        await get(client, running, "/guard/requests/none", status=404)


async def test_a_stream_in_flight_can_be_looked_at() -> None:
    def script(_: int) -> list[bytes | float | None]:
        return [OK_SSE, chunk("Fine "), None]

    async with backend(script) as upstream, guarded(upstream.url, policy=policy()) as (running, client):
        headers = {"X-Request-Id": "open"}
        async with client.post(running.url + "/v1/chat/completions", json=CHAT, headers=headers) as response:
            await response.content.readany()
            detail = await get(client, running, "/guard/requests/open")
            assert (detail["open"], detail["attempts"][0]["accepted"]) == (True, [2])


async def test_status_replicas_policies_fleet() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        status = await get(client, running, "/guard/status")
        assert (status["policies"], status["recording"], status["fleet"]) == (["test"], None, False)
        assert status["retries"] == {"in_flight": 0, "allowed": 3, "guards": 1, "degraded": False, "refused": 0}
        (replica,) = await get(client, running, "/guard/replicas")
        assert (replica["url"], replica["in_flight"]) == ("http://127.0.0.1:9", 0)
        assert (replica["standing"], replica["ejections"]) == ("ready", {"quality": 0, "transport": 0})
        told = await get(client, running, "/guard/policies/source")
        assert [one["name"] for one in told["policies"]] == ["test"]
        assert told["signals"]["garble"]["help"]
        assert await get(client, running, "/guard/fleet") == {"shared": False, "verdicts": []}
        for seconds in ("nan", "-1", "inf", "x", "1e300"):
            assert (await get(client, running, f"/guard/history?seconds={seconds}"))["points"] > 0


class Shared:
    """A store that another guard wrote to."""

    async def recent_verdicts(self, limit: int) -> list[dict[str, object]]:
        return [{"guard": "other", "request_id": "r"}][:limit]


async def test_verdicts_of_other_guards_come_from_the_store() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        app = aiohttp.web.Application()
        Dashboard(running.guard, Shared()).add_to(app)
        runner = aiohttp.web.AppRunner(app)
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/guard/fleet"
        async with client.get(url) as response:
            assert (await response.json())["verdicts"] == [{"guard": "other", "request_id": "r"}]
        await runner.cleanup()


async def test_a_what_if_from_another_origin_or_of_another_shape_is_refused() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        url = running.admin_url + "/guard/what-if"
        # All that a page elsewhere can send without being asked first.
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            async with client.post(url, data=b"{}", headers={"Content-Type": kind}) as response:
                assert response.status == 415
        for body, complaint in (
            ({}, "policy"),
            ({"policy": "other", "edits": []}, "no policy"),
            ({"policy": "test", "edits": [{"field": "name", "value": 1}]}, "field"),
            ({"policy": "test", "edits": [{"rule": "rejected", "field": "above", "value": 1}]}, "no 'above'"),
            ({"policy": "test", "edits": []}, "nothing is recorded"),
        ):
            async with client.post(url, json=body) as response:
                assert response.status == 400
                assert complaint in (await response.json())["error"]
        as_json = {"Content-Type": "application/json"}
        async with client.post(url, data=b'{"policy": "\xff", "edits": []}', headers=as_json) as response:
            assert response.status == 400
