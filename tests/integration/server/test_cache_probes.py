"""A withdrawal is believed where it was seen."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from guard.server.cache_probes import check_withdraw
from guard.server.capabilities import AiohttpAsker
from guard.server.probes import State, identify
from tests.integration.server.scripted_engine import engine


@pytest.mark.parametrize(
    ("defects", "state", "says"),
    [
        ({}, State.YES, "300 tokens from the cache when asked again, 0 once withdrawn"),
        ({"withdraws": False}, State.NO, "in spite of guard_withdraw"),
        ({"caches": False}, State.NO, "nothing to withdraw"),
    ],
)
async def test_what_a_backend_makes_of_the_switch(defects: dict[str, Any], state: State, says: str) -> None:
    async with engine(**defects) as scripted, aiohttp.ClientSession() as session:
        asker = AiohttpAsker(session, scripted.url)
        found = await check_withdraw(asker, await identify(asker))
    assert found.state is state
    assert says in found.detail
