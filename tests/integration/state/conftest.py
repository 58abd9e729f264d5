"""Real Redis servers, one of each kind for the session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest

from tests.integration.state.servers import Cluster, Sentinels, Server

S = TypeVar("S", Server, Cluster, Sentinels)


def started(servers: S) -> Iterator[S]:
    """Runs them while a test uses them; none stays behind when one does not start."""
    try:
        servers.start()
        yield servers
    finally:
        servers.kill()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server that tests share and leave in health."""
    server = Server(tmp_path_factory.mktemp("redis"))
    yield from started(server)


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that a test may maltreat."""
    server = Server(tmp_path_factory.mktemp("redis"))
    yield from started(server)


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield from started(cluster)


@pytest.fixture
def redis_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    sentinels = Sentinels(tmp_path_factory.mktemp("sentinel"))
    yield from started(sentinels)


@pytest.fixture(scope="session")
def shared_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    """A master and its replica that no test changes over."""
    sentinels = Sentinels(tmp_path_factory.mktemp("sentinel"))
    yield from started(sentinels)
