"""The pool: choice of replicas, names of faults."""

from __future__ import annotations

import aiohttp
import pytest

from guard.clock import VirtualClock
from guard.config import TimeoutSettings, UpstreamSettings
from guard.server.baselines import Baselines
from guard.server.upstream import Upstream, UpstreamPool, as_fault


def pool(*names: str, engine: str = "vllm") -> UpstreamPool:
    upstreams = [
        Upstream(UpstreamSettings(url=f"http://{name}", name=name, engine=engine), Baselines({}))  # type: ignore[arg-type]
        for name in names
    ]
    return UpstreamPool(upstreams, TimeoutSettings(), VirtualClock())


def test_the_least_busy_is_chosen() -> None:
    replicas = pool("a", "b")
    replicas.upstreams[0].in_flight = 1
    assert replicas.choose().name == "b"


def test_an_untried_replica_comes_before_a_less_busy_one() -> None:
    replicas = pool("a", "b")
    replicas.upstreams[1].in_flight = 5
    assert replicas.choose(tried={replicas.upstreams[0].name}).name == "b"


def test_a_single_replica_is_chosen_again() -> None:
    replicas = pool("a")
    assert replicas.choose(tried={replicas.upstreams[0].name}).name == "a"


def test_a_continued_text_stays_with_its_engine() -> None:
    replicas = UpstreamPool(
        [
            Upstream(UpstreamSettings(url="http://a", name="a", engine="sglang"), Baselines({})),
            Upstream(UpstreamSettings(url="http://b", name="b", engine="vllm"), Baselines({})),
        ],
        TimeoutSettings(),
        VirtualClock(),
    )
    replicas.upstreams[1].in_flight = 9
    assert replicas.choose(engine="vllm").name == "b"


def test_a_pool_needs_a_replica() -> None:
    with pytest.raises(ValueError, match="at least one"):
        UpstreamPool([], TimeoutSettings(), VirtualClock())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "timeout"),
        (aiohttp.ServerTimeoutError(), "timeout"),
        (aiohttp.ClientPayloadError(), "reset"),
        (aiohttp.ServerDisconnectedError(), "reset"),
        (ConnectionResetError(), "reset"),
        (aiohttp.InvalidURL("x"), "protocol"),
    ],
)
def test_faults_are_named(error: BaseException, kind: str) -> None:
    assert as_fault(error).kind == kind


async def test_the_session_exists_only_while_the_pool_is_open() -> None:
    replicas = pool("a")
    with pytest.raises(RuntimeError, match="not open"):
        _ = replicas.session
    await replicas.open()
    assert not replicas.session.closed
    await replicas.close()
