"""guard.lab.inject: what a fault needs of the server, in which order, and what it records."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from guard.errors import SetupError
from guard.lab.inject import FaultPlan, Injector, prefill_only
from tests.unit.lab.state_file import saved_slot


class Server:
    """Just enough of llama.cpp: it saves slots as files and remembers what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[str] = []
        self.orders: list[dict[str, Any]] = []
        self.restored = b""
        self.refuse = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.calls.append(request.path_qs)
        if self.refuse and self.refuse in request.path_qs:
            return web.json_response({"error": "no"}, status=501)
        body = await request.read()
        if "save" in request.path_qs:
            (self.folder / json.loads(body)["filename"]).write_bytes(saved_slot(seed=len(self.calls)))
        if "restore" in request.path_qs:
            self.restored = (self.folder / json.loads(body)["filename"]).read_bytes()
        if request.path == "/props":
            return web.json_response({"total_slots": 2, "default_generation_settings": {"n_ctx": 512}})
        if request.path == "/slots":
            return web.json_response([{"id": 0, "n_prompt_tokens": 5}, {"id": 1, "n_prompt_tokens": 70}])
        return web.json_response({})

    async def order(self, order: dict[str, Any]) -> dict[str, Any]:
        self.orders.append(order)
        first = order.get("first_row", 0)
        return {"rows": [first, first + order.get("num_rows", 0)]}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
async def session(server: Server) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with TestServer(app) as listening, aiohttp.ClientSession() as client:
        yield client, str(listening.make_url("")).rstrip("/")


@pytest.fixture
def injector(server: Server, session: tuple[aiohttp.ClientSession, str]) -> Injector:
    return Injector(*session, server.folder, server.order, slot=1)


CHAT = b'{"messages": [], "stream": true, "stream_options": {}, "max_completion_tokens": 9, "temperature": 0}'


async def test_a_prompt_is_filled_saved_edited_and_restored(server: Server, injector: Injector) -> None:
    plan = FaultPlan("noise", first_row=2)
    await injector.prepare(plan)
    done = await injector.spoil_prompt(plan, "/v1/chat/completions", CHAT)
    assert server.calls == ["/v1/chat/completions", "/slots/1?action=save", "/slots/1?action=restore"]
    assert server.restored not in (b"", saved_slot(seed=2))
    assert (done.token, done.rows) == (0, (2, 8))


async def test_a_splice_saves_its_donor_once(server: Server, injector: Injector) -> None:
    plan = FaultPlan("splice")
    for _ in range(2):
        await injector.prepare(plan)
        await injector.spoil_prompt(plan, "/completion", b"{}")
    assert server.calls[:3] == ["/completion", "/slots/1?action=save", "/slots/1?action=erase"]
    assert sum("erase" in call for call in server.calls) == 1


async def test_a_running_slot_is_located_once_then_overwritten(server: Server, injector: Injector) -> None:
    plan = FaultPlan("zero_half", onset_token=60, seed=7, first_row=4)
    for _ in range(2):
        await injector.prepare(plan)
    done = await injector.spoil_running(plan, "/completion", 61, 100)
    locate, corrupt = server.orders
    assert (locate["op"], locate["capacity_rows"], locate["num_streams"]) == ("locate", 512, 2)
    assert (corrupt["first_row"], corrupt["num_rows"], corrupt["seed"]) == (4, 96, 7)
    assert (done.token, done.rows) == (61, (4, 100))


async def test_without_timings_the_server_is_asked_how_full_the_slot_is(server: Server, injector: Injector) -> None:
    await injector.spoil_running(FaultPlan("noise", onset_token=1), "/completion", 1, 0)
    assert server.orders[0]["num_rows"] == 70


async def test_a_range_beyond_the_slot_is_brought_into_it(server: Server, injector: Injector) -> None:
    plan = FaultPlan("noise", onset_token=1, first_row=500, num_rows=500)
    await injector.spoil_running(plan, "/completion", 1, 30)
    assert (server.orders[0]["first_row"], server.orders[0]["num_rows"]) == (29, 1)


async def test_a_refused_step_is_named(server: Server, injector: Injector) -> None:
    server.refuse = "action=save"
    with pytest.raises(SetupError, match=r"action=save with 501"):
        await injector.spoil_prompt(FaultPlan("noise"), "/completion", b"{}")


async def test_memory_out_of_reach_is_said(server: Server, session: tuple[aiohttp.ClientSession, str]) -> None:
    blind = Injector(*session, server.folder, None, slot=0)
    plan = FaultPlan("noise", onset_token=5)
    with pytest.raises(SetupError, match="allow_faults"):
        await blind.prepare(plan)
    with pytest.raises(SetupError, match="allow_faults"):
        await blind.spoil_running(plan, "/completion", 5, 10)


def test_the_fill_keeps_the_prompt_and_drops_the_length() -> None:
    short = prefill_only(CHAT)
    assert short["messages"] == []
    assert (short["stream"], short["max_tokens"], short["cache_prompt"]) == (False, 1, False)
    assert "max_completion_tokens" not in short


@pytest.mark.parametrize(
    "plan",
    [
        {"fault": "melt"},
        {"fault": "noise", "onset_token": -1},
        {"fault": "noise", "num_rows": 0},
        {"fault": "noise", "speed": 1},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(plan, FaultPlan)
