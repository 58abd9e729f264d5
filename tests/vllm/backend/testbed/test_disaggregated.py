"""guard.backend.testbed.disaggregated: two real servers and a router."""

from __future__ import annotations

import asyncio

import aiohttp

from guard.backend.testbed.disaggregated import disaggregated
from guard.backend.testbed.pool import ServerPool
from tests.bench.race_free_serve import load, metric
from tests.vllm.backend.vllm.push.bed import options


async def test_answers_are_those_of_one_engine_and_no_block_is_missing(vllm_servers: ServerPool) -> None:
    async with disaggregated(options(), home=vllm_servers.home) as halves, aiohttp.ClientSession() as client:
        seen = await load(client, halves.url, halves, 40, 4)
        assert seen["wrong"] == 0
        assert seen["finished"] + seen["aborted"] == 40
        assert seen["aborted"] > 0
        assert await metric(client, halves.decode.url, "vllm:external_prefix_cache_hits_total") > 0
        for server in (halves.prefill, halves.decode):
            assert "guard: race-free KV cache around the configured connector" in server.log_text()
            for _ in range(200):
                used = await metric(client, server.url, "vllm:kv_cache_usage_perc")
                if not used:
                    break
                await asyncio.sleep(0.2)
            assert used == 0
        metrics = await (await client.get(f"{halves.decode.url}/metrics")).text()
        assert 'vllm:guard_kv_blocks{engine="0",model_name="model",state="quarantined"} 0.0' in metrics
        assert 'vllm:guard_kv_connections_failed_total{engine="0",model_name="model"} 0.0' in metrics
