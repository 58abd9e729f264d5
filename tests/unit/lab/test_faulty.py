"""guard.lab.faulty: it passes bytes on unchanged, and hits only what it was armed for."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from guard.errors import SetupError
from guard.lab.faulty import FaultPlan, FaultyReplica, may_reuse_cache, pin_to_slot
from tests.unit.lab.state_file import saved_slot

STREAM = b"".join(
    b'data: {"content": "x", "timings": {"cache_n": 2, "prompt_n": 3, "predicted_n": %d}}\n\n' % n for n in range(1, 10)
)


class Backend:
    """A server that records bodies, saves a slot, and streams in awkward pieces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, bytes]] = []
        self.gone = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.calls.append((request.path_qs, body))
        if "action=save" in request.path_qs:
            (self.folder / json.loads(body)["filename"]).write_bytes(saved_slot())
        if request.path == "/props":
            return web.json_response({"total_slots": 1, "default_generation_settings": {"n_ctx": 64}})
        if request.path == "/teapot":
            return web.Response(status=418, body=body[::-1], headers={"X-Odd": "1"})
        if b'"stream": true' not in body and b'"stream":true' not in body:
            return web.json_response({})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for start in range(0, len(STREAM), 50):
                await response.write(STREAM[start : start + 50])
                await asyncio.sleep(0)
            if b"forever" in body:
                await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.gone.set()
            raise
        return response

    async def order(self, order: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((order["op"], json.dumps(order).encode()))
        return {"rows": [order.get("first_row"), order.get("num_rows")]}

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.calls]


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    return Backend(tmp_path)


@pytest.fixture
async def replica(backend: Backend) -> AsyncIterator[FaultyReplica]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", backend.handle)
    async with TestServer(app) as listening:
        url = str(listening.make_url(""))
        async with FaultyReplica(url, backend.folder, order=backend.order) as proxy:
            yield proxy


async def post(replica: FaultyReplica, path: str, body: bytes) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.post(replica.url + path, data=body) as reply:
        return reply.status, await reply.read()


STREAMED = b'{"prompt": "p", "stream": true}'


async def test_unarmed_it_changes_nothing(replica: FaultyReplica, backend: Backend) -> None:
    odd = b'{ "a" :1.0,  "b": "\\u00e9" }'
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{replica.url}/teapot?q=%2F", data=odd) as reply,
    ):
        assert (reply.status, reply.headers["X-Odd"], await reply.read()) == (418, "1", odd[::-1])
    assert backend.calls == [("/teapot?q=/", odd)]
    assert await post(replica, "/completion", STREAMED) == (200, STREAM)


async def test_an_armed_prompt_fault_hits_the_next_generation_only(replica: FaultyReplica, backend: Backend) -> None:
    replica.arm(FaultPlan("noise"))
    await post(replica, "/tokenize", STREAMED)
    for _ in range(2):
        assert await post(replica, "/completion", STREAMED) == (200, STREAM)
    one_hit = ["/completion", "/slots/0?action=save", "/slots/0?action=restore", "/completion"]
    assert backend.paths == ["/tokenize", *one_hit, "/completion"]
    assert json.loads(backend.calls[4][1]) == {"prompt": "p", "stream": True, "id_slot": 0}
    assert backend.calls[5][1] == STREAMED
    assert [injection.rows for injection in replica.history] == [(0, 8)]


async def test_a_sticky_fault_hits_until_disarmed(replica: FaultyReplica) -> None:
    replica.arm(FaultPlan("noise", sticky=True))
    for _ in range(2):
        await post(replica, "/completion", STREAMED)
    replica.disarm()
    await post(replica, "/completion", STREAMED)
    assert len(replica.history) == 2


async def test_a_request_that_bypasses_the_cache_is_spared(replica: FaultyReplica, backend: Backend) -> None:
    replica.arm(FaultPlan("noise"))
    fresh = b'{"prompt": "p", "stream": true, "cache_prompt": false}'
    await post(replica, "/completion", fresh)
    assert backend.calls == [("/completion", fresh)]
    assert replica.plan is not None


async def test_only_a_matching_body_is_hit(replica: FaultyReplica) -> None:
    replica.arm(FaultPlan("noise", match="bicycle"))
    await post(replica, "/completion", STREAMED)
    assert not replica.history
    await post(replica, "/completion", STREAMED.replace(b'"p"', b'"a bicycle"'))
    assert len(replica.history) == 1


async def test_a_late_write_comes_once_and_before_the_token_is_passed_on(
    replica: FaultyReplica, backend: Backend
) -> None:
    replica.arm(FaultPlan("noise", onset_token=4))
    assert await post(replica, "/completion", STREAMED) == (200, STREAM)
    order = json.loads(backend.calls[-1][1])
    assert (order["op"], order["num_rows"]) == ("corrupt", 2 + 3 + 4)
    assert [injection.token for injection in replica.history] == [4]
    assert backend.paths.count("corrupt") == 1


async def test_a_late_write_waits_for_a_streamed_reply(replica: FaultyReplica) -> None:
    replica.arm(FaultPlan("noise", onset_token=4))
    await post(replica, "/completion", b'{"prompt": "p"}')
    assert not replica.history
    assert replica.plan is not None


async def test_a_fault_that_cannot_be_put_in_is_an_honest_error(
    replica: FaultyReplica, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.unit.lab.test_faulty.saved_slot", lambda: b"something else entirely")
    replica.arm(FaultPlan("noise"))
    status, body = await post(replica, "/completion", STREAMED)
    assert status == 500
    assert b"could not be injected: not a saved slot" in body


async def test_the_remote_control_arms_tells_and_heals(replica: FaultyReplica, backend: Backend) -> None:
    assert (await post(replica, "/lab/fault", b'{"fault": "shuffle", "sticky": true}'))[0] == 200
    assert replica.plan == FaultPlan("shuffle", sticky=True)
    assert (await post(replica, "/lab/fault", b'{"fault": "melt"}'))[0] == 400
    await post(replica, "/completion", STREAMED)
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{replica.url}/lab/fault") as reply:
            state = await reply.json()
        async with session.delete(f"{replica.url}/lab/fault") as reply:
            assert (await reply.json())["plan"] is None
    assert state["plan"]["fault"] == "shuffle"
    assert state["history"][0]["token"] == 0
    assert backend.paths[-1] == "/slots/0?action=erase"


async def test_a_client_that_leaves_ends_the_upstream_request(replica: FaultyReplica, backend: Backend) -> None:
    session = aiohttp.ClientSession()
    reply = await session.post(f"{replica.url}/completion", data=b'{"stream": true, "prompt": "forever"}')
    await reply.content.readany()
    await session.close()
    await asyncio.wait_for(backend.gone.wait(), 10)


async def test_without_reach_into_memory_late_faults_are_refused(tmp_path: Path) -> None:
    async with FaultyReplica("http://127.0.0.1:9", tmp_path) as blind:
        with pytest.raises(SetupError, match="allow_faults"):
            blind.arm(FaultPlan("noise", onset_token=3))
        status, body = await post(blind, "/completion", STREAMED)
        assert status == 502
        assert b"the backend is gone" in body


def test_before_its_start_it_cannot_heal(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not started"):
        asyncio.run(FaultyReplica("http://127.0.0.1:9", tmp_path).heal())


def test_pinning_keeps_the_other_values_bytes() -> None:
    assert pin_to_slot(b'{"temperature": 0.70, "x": {"y" :1}}', 2) == (b'{"temperature":0.70,"x":{"y" :1},"id_slot":2}')


@pytest.mark.parametrize(
    ("body", "reuses"),
    [
        (b"{}", True),
        (b'{"cache_prompt": true}', True),
        (b'{"cache_prompt": false}', False),
        (b"[]", False),
        (b"", False),
    ],
)
def test_the_cache_is_reused_unless_told_not_to(body: bytes, reuses: bool) -> None:
    assert may_reuse_cache(body) is reuses
