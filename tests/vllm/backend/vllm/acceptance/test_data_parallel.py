"""Two front ends before two engines of one server: steps find their way back to the answer they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator

import aiohttp
import msgspec
import pytest

from guard.backend.testbed.configurations import tiny
from guard.backend.testbed.pool import ServerPool
from guard.backend.testbed.server import VllmServer
from tests.vllm.backend.vllm.load import Answer, mismatches, mixed, run, settled, told

#: Each engine computes in its own process; its requests are told in the log by the front end that took them.
TWO_OF_EACH = ("--data-parallel-size", "2", "--api-server-count", "2", "--distributed-executor-backend", "uni")
#: They share a socket: on a busy machine whoever is awake takes all, and there is another wave.
WAVES = 8
RECEIVED = re.compile(r"\((ApiServer_\d) pid=\d+\).* Received request ")


@pytest.fixture
def server(vllm_servers: ServerPool) -> Iterator[VllmServer]:
    """Ended at once: it takes the memory of two."""
    args = (*TWO_OF_EACH, "--enable-log-requests")
    options = msgspec.structs.replace(tiny("draft"), args=args, ready_seconds=600.0)
    yield vllm_servers.get(options)
    vllm_servers.end(options)


def front_ends(server: VllmServer) -> set[str]:
    """Those that took a request."""
    return set(RECEIVED.findall(server.log_text()))


async def drafts_by_engine(url: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as reply:
        page = await reply.text()
    found = re.findall(r'^vllm:spec_decode_num_drafts_total\{engine="(\d)".*\} (\S+)$', page, re.MULTILINE)
    return {engine: float(value) for engine, value in found}


@pytest.mark.timeout(900)
async def test_two_front_ends_and_two_engines_stream_what_vllm_counted(server: VllmServer) -> None:
    answers: list[Answer] = []
    for seed in range(3, 3 + WAVES):
        answers += await run(server.url, mixed(60, server.options.name, seed, ends_early=False))
        if len(front_ends(server)) == 2:
            break
    after = await settled(server.url)
    assert told(answers).items() <= after.items()
    compared, wrong = mismatches(answers)
    assert wrong == []
    assert compared >= 25
    # Both of each had a part in it.
    assert front_ends(server) == {"ApiServer_0", "ApiServer_1"}
    drafts = await drafts_by_engine(server.url)
    assert drafts.keys() == {"0", "1"}
    assert all(drafts.values())
