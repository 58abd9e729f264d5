"""
Replicas by DNS: names are asked again and again, and the pool follows the answers.

An A or AAAA name with one address a replica is what a headless service of Kubernetes is; an SRV name
gives ports as well. A name that cannot be resolved changes nothing: an empty answer is far more often
DNS in trouble than all replicas gone, and health checks find the latter. Where a name has A records, its
AAAA records are not asked for: they would be the same replicas again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import dns.asyncresolver
import dns.exception
import dns.nameserver
import msgspec
import structlog

from guard.config import UpstreamSettings
from guard.fleet.settings import DnsSettings, parse_nameserver
from guard.server.upstream import UpstreamPool, replica_name
from guard.types import ReplicaId

#: Replicas taken of one name, whatever its answer.
MOST_ENDPOINTS = 1024

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Found(msgspec.Struct, frozen=True):
    """
    Answer to a question.

    Args:
        endpoints: Address and port of each replica, in a fixed order.
        ttl: How long it holds. Unit: seconds.
    """

    endpoints: tuple[tuple[str, int], ...]
    ttl: float


class Resolver(Protocol):
    """Asks DNS."""

    async def hosts(self, name: str, port: int) -> Found:
        """Addresses of a name. Raises LookupError."""
        ...

    async def services(self, name: str) -> Found:
        """Addresses and ports of an SRV name. Raises LookupError."""
        ...


class DnsResolver:
    """
    Asks the machine's name servers, or those of the settings.

    Args:
        settings: Servers and patience.

    Raises:
        ValueError: A name server is no address.
    """

    def __init__(self, settings: DnsSettings) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not settings.nameservers)
        self._timeout = settings.timeout
        if settings.nameservers:
            places = map(parse_nameserver, settings.nameservers)
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in places]

    async def hosts(self, name: str, port: int) -> Found:
        """See Resolver."""
        for kind in ("A", "AAAA"):
            addresses, ttl = await self._ask(name, kind)
            if addresses:
                return Found(tuple(sorted((str(a), port) for a in addresses)), ttl)
        raise LookupError(f"{name} has no address")

    async def services(self, name: str) -> Found:
        """See Resolver."""
        records, ttl = await self._ask(name, "SRV")
        endpoints: set[tuple[str, int]] = set()
        for target, port in {(r.target.to_text(), r.port) for r in records}:  # type: ignore[attr-defined]
            found = await self.hosts(target, port)
            endpoints.update(found.endpoints)
            ttl = min(ttl, found.ttl)
        if not endpoints:
            raise LookupError(f"{name} has no SRV records")
        return Found(tuple(sorted(endpoints)), ttl)

    async def _ask(self, name: str, kind: str) -> tuple[list[object], float]:
        try:
            answer = await self._resolver.resolve(
                name, kind, raise_on_no_answer=False, lifetime=self._timeout, search=True
            )
        except (dns.exception.DNSException, OSError) as error:
            raise LookupError(f"{kind} of {name}: {error}") from error
        if answer.rrset is None:
            return [], 0.0
        return list(answer.rrset), float(answer.rrset.ttl)


class Discovery:
    """
    Keeps the pool as DNS has it. `run` is its task.

    Args:
        pool: Which gains and loses replicas.
        sources: Upstreams with `resolve`.
        settings: How often.
        resolver: Who is asked.
    """

    def __init__(
        self, pool: UpstreamPool, sources: Sequence[UpstreamSettings], settings: DnsSettings, resolver: Resolver
    ) -> None:
        self._pool = pool
        self._sources = sources
        self._settings = settings
        self._resolver = resolver
        self._joined: dict[int, set[ReplicaId]] = {index: set() for index in range(len(sources))}
        self._waits = [0.0] * len(sources)
        self.lookups: Counter[str] = Counter()

    async def run(self) -> None:
        """Ask until cancelled; each name at its own pace."""
        async with asyncio.TaskGroup() as group:
            for index in range(len(self._sources)):
                group.create_task(self._follow(index))

    async def _follow(self, index: int) -> None:
        wait = self._waits[index]
        while True:
            await asyncio.sleep(wait)
            wait = await self.refresh(index)

    async def start(self) -> None:
        """Ask for every name once; what cannot be resolved is asked again by `run`."""
        self._waits = list(await asyncio.gather(*map(self.refresh, range(len(self._sources)))))

    async def refresh(self, index: int) -> float:
        """
        Ask for one name and follow the answer.

        Returns:
            When to ask again, from now. Unit: seconds.
        """
        source = self._sources[index]
        try:
            found = await self._find(source)
        except LookupError as error:
            self.lookups["failed"] += 1
            _log.warning("a name could not be resolved; its replicas stay as they are", reason=str(error))
            return self._settings.interval
        self.lookups["good"] += 1
        self._follow_answer(index, source, found)
        return min(max(found.ttl, self._settings.interval), self._settings.most_interval)

    async def _find(self, source: UpstreamSettings) -> Found:
        parts = urlsplit(source.url)
        assert parts.hostname is not None
        if source.resolve == "srv":
            return await self._resolver.services(parts.hostname)
        return await self._resolver.hosts(parts.hostname, parts.port or 80)

    def _follow_answer(self, index: int, source: UpstreamSettings, found: Found) -> None:
        ones = [endpoint(source, *place) for place in found.endpoints[:MOST_ENDPOINTS]]
        wanted = {replica_name(one): one for one in ones}
        have = self._joined[index]
        # Another name's, or one of the list: those stay, whatever becomes of this name.
        taken = {upstream.name for upstream in self._pool.upstreams} - have
        for name in have - wanted.keys():
            have.discard(name)
            self._pool.leave(name)
            _log.info("replica gone", replica=name)
        for name in sorted(wanted.keys() - have - taken):
            have.add(name)
            self._pool.join(wanted[name], like=replica_name(source))
            _log.info("replica found", replica=name)


def endpoint(source: UpstreamSettings, address: str, port: int) -> UpstreamSettings:
    """One replica of a name: the upstream with the address in place of the name."""
    parts = urlsplit(source.url)
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    url = urlunsplit((parts.scheme, place, parts.path, "", ""))
    name = f"{source.name}/{place}" if source.name else ""
    return msgspec.structs.replace(source, url=url, name=name, resolve=None)
