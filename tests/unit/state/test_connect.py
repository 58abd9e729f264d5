"""A client for each way a Redis can stand; nothing is connected by making it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelConnectionPool

from guard.errors import ConfigError
from guard.state.connect import CONNECTIONS, PATIENCE, connect
from guard.state.settings import StoreSettings, TlsSettings


def pool(settings: StoreSettings) -> Any:
    client = connect(settings)
    assert isinstance(client, Redis)
    return client.connection_pool


async def test_alone() -> None:
    made = pool(StoreSettings(url="redis://h:1/2"))
    how = made.connection_kwargs
    assert (how["host"], how["port"], how["db"]) == ("h", 1, 2)
    assert how["socket_timeout"] == how["socket_connect_timeout"] == PATIENCE
    assert how["retry"]._retries == 0
    assert made.max_connections == CONNECTIONS


async def test_with_tls_and_a_user(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret")
    ca, cert, key = (str(tmp_path / name) for name in ("ca", "cert", "key"))
    for file in (ca, cert, key):
        Path(file).write_text("read when it connects")
    tls = TlsSettings(ca_file=ca, cert_file=cert, key_file=key)
    made = pool(StoreSettings(url="rediss://h", username="guard", password_file=str(password), tls=tls))
    assert made.connection_class is SSLConnection
    how = made.connection_kwargs
    assert (how["username"], how["password"]) == ("guard", "s3cret")
    assert (how["ssl_ca_certs"], how["ssl_certfile"], how["ssl_keyfile"]) == (ca, cert, key)
    assert how["ssl_check_hostname"] is True


async def test_a_unix_socket() -> None:
    made = pool(StoreSettings(url="unix:///run/redis.sock"))
    assert made.connection_class is UnixDomainSocketConnection


async def test_behind_sentinels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "of the master")
    monkeypatch.setenv("TWO", "of the sentinels")
    made = pool(
        StoreSettings(
            url="redis://mymaster/3",
            sentinels=["s1:26379", "s2:26379"],
            password_env="ONE",
            sentinel_password_env="TWO",
        )
    )
    assert isinstance(made, SentinelConnectionPool)
    assert made.service_name == "mymaster"
    assert made.connection_kwargs["db"] == 3
    assert made.connection_kwargs["password"] == "of the master"
    asked = [sentinel.connection_pool.connection_kwargs for sentinel in made.sentinel_manager.sentinels]
    assert [how["host"] for how in asked] == ["s1", "s2"]
    assert all(how["password"] == "of the sentinels" for how in asked)
    assert all(how["socket_timeout"] == PATIENCE for how in asked)


async def test_a_cluster_is_entered_at_any_node() -> None:
    client = connect(StoreSettings(url="redis://127.0.0.1:7000", cluster=True, nodes=["127.0.0.1:7001"]))
    assert isinstance(client, RedisCluster)
    assert {node.port for node in client.nodes_manager.startup_nodes.values()} == {7000, 7001}


async def test_a_password_that_is_not_there_is_told_before_anything_is_connected() -> None:
    with pytest.raises(ConfigError, match="NOT_SET_ANYWHERE"):
        connect(StoreSettings(url="redis://h", password_env="NOT_SET_ANYWHERE"))
