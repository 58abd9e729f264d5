"""A redis-py client for each way a Redis can stand: alone, behind Sentinels, as a Cluster."""

from __future__ import annotations

from typing import Any, Protocol, cast

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError

from guard.state.settings import StoreSettings, address_of, check_files, host_port, password_of

#: After which a call that nobody waits for any more, and its connection, are given up. Unit: seconds.
PATIENCE = 1.0
#: Connections to one server at most.
CONNECTIONS = 24


class Client(Protocol):
    """The part of redis-py that is used."""

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: str) -> list[Any]:
        """Run a script that the server knows."""
        ...

    async def eval(self, script: str, numkeys: int, *keys_and_args: str) -> list[Any]:
        """Run a script, and make the server know it."""
        ...

    async def xrevrange(self, name: str, count: int) -> list[Any]:
        """The latest entries of a stream."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class _Alone(Redis):
    """
    A Redis under one name. Once it is read-only, another may have taken its place behind that name, and only a new
    connection gets there: the server that was changed over keeps the old ones open.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as of Redis
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except ReadOnlyError:
            await self.connection_pool.disconnect(inuse_connections=False)
            raise


def connect(settings: StoreSettings) -> Client:
    """
    A client; nothing is connected before its first call, and no call is repeated.

    Args:
        settings: Checked settings.

    Raises:
        ConfigError: A password or a certificate cannot be had.
    """
    check_files(settings)  # else what is missing would be told as a store that cannot be reached
    address = address_of(settings)
    how: dict[str, Any] = {**_common(settings.username, password_of(settings)), **_tls(settings)}
    if address.path:
        return cast(Client, Redis(unix_socket_path=address.path, max_connections=CONNECTIONS, **how))
    if settings.cluster:
        nodes = [(address.host, address.port), *_addresses(settings.nodes)]
        startup = [ClusterNode(host, port) for host, port in nodes]
        return cast(Client, RedisCluster(startup_nodes=startup, max_connections=CONNECTIONS, **how))
    if settings.sentinels:
        asked = {**_common(settings.sentinel_username, password_of(settings, "sentinel_")), **_tls(settings)}
        how |= {"db": address.database, "max_connections": CONNECTIONS}
        sentinel = Sentinel(_addresses(settings.sentinels), sentinel_kwargs=asked, **how)  # type: ignore[no-untyped-call]
        return cast(Client, sentinel.master_for(address.host))
    return cast(
        Client,
        _Alone(host=address.host, port=address.port, db=address.database, max_connections=CONNECTIONS, **how),
    )


def _common(username: str | None, password: str | None) -> dict[str, Any]:
    return {
        "username": username,
        "password": password,
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        # A call that failed is answered from this guard's own state; repeating it only costs time.
        "retry": Retry(NoBackoff(), 0),
        # Its greeting is one command fewer, and all servers know it.
        "protocol": 2,
    }


def _tls(settings: StoreSettings) -> dict[str, Any]:
    if not address_of(settings).tls:
        return {}
    return {
        "ssl": True,
        "ssl_ca_certs": settings.tls.ca_file,
        "ssl_certfile": settings.tls.cert_file,
        "ssl_keyfile": settings.tls.key_file,
        "ssl_check_hostname": settings.tls.check_hostname,
    }


def _addresses(texts: list[str]) -> list[tuple[str, int]]:
    found = [host_port(text) for text in texts]
    return [address for address in found if address is not None]
