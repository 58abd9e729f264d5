"""Replicas come and go with DNS: a real name server on a loopback port, real questions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from guard.clock import VirtualClock
from guard.config import TimeoutSettings, UpstreamSettings
from guard.fleet.settings import DnsSettings
from guard.server.baselines import Baselines
from guard.server.discovery import Discovery, DnsResolver, endpoint
from guard.server.upstream import UpstreamPool

NAME = "vllm.default.svc.cluster.local"
SERVICE = f"_http._tcp.{NAME}"


class Zone(asyncio.DatagramProtocol):
    """A name server with the records of `records`: (name, type) -> lines of data."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.ttl = 30
        self.broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        (asked,) = question.question
        name, kind = asked.name.to_text().rstrip("."), dns.rdatatype.to_text(asked.rdtype)
        self.asked.append((name, kind))
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        lines = self.records.get((name, kind), [])
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif lines:
            answer.answer.append(dns.rrset.from_text(asked.name, self.ttl, "IN", kind, *lines))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), address)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def zone() -> AsyncIterator[tuple[Zone, DnsSettings]]:
    loop = asyncio.get_running_loop()
    transport, served = await loop.create_datagram_endpoint(Zone, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    try:
        yield served, DnsSettings(interval=5.0, most_interval=20.0, timeout=1.0, nameservers=(f"127.0.0.1:{port}",))
    finally:
        transport.close()


def empty_pool() -> UpstreamPool:
    return UpstreamPool([], Baselines({}), TimeoutSettings(), VirtualClock())


def host(url: str = f"http://{NAME}:8000/base", name: str = "") -> UpstreamSettings:
    return UpstreamSettings(url=url, resolve="host", engine="vllm", name=name)


async def test_the_pool_follows_the_addresses_of_a_name() -> None:
    async with zone() as (served, settings):
        replicas = empty_pool()
        discovery = Discovery(replicas, [host()], settings, DnsResolver(settings))
        served.records[(NAME, "A")] = ["10.0.0.2", "10.0.0.1"]
        assert await discovery.refresh(0) == 20.0, "the answer's time to live, within bounds"
        assert [u.url for u in replicas.upstreams] == ["http://10.0.0.1:8000/base", "http://10.0.0.2:8000/base"]
        kept = replicas.upstreams[1]
        kept.in_flight += 1
        served.records[(NAME, "A")] = ["10.0.0.2", "10.0.0.3"]
        served.ttl = 1
        assert await discovery.refresh(0) == 5.0
        assert [u.url for u in replicas.upstreams] == ["http://10.0.0.2:8000/base", "http://10.0.0.3:8000/base"]
        assert replicas.upstreams[0] is kept, "who stays keeps its state and its streams"


@pytest.mark.parametrize("trouble", ["broken", "gone", "empty"])
async def test_trouble_with_dns_changes_nothing(trouble: str) -> None:
    async with zone() as (served, settings):
        replicas = empty_pool()
        discovery = Discovery(replicas, [host()], settings, DnsResolver(settings))
        served.records[(NAME, "A")] = ["10.0.0.1"]
        await discovery.start()
        served.broken = trouble == "broken"
        if trouble == "gone":
            served.records.clear()
        elif trouble == "empty":
            served.records[(NAME, "A")] = []
        assert await discovery.refresh(0) == 5.0
        assert [u.url for u in replicas.upstreams] == ["http://10.0.0.1:8000/base"]
        assert discovery.lookups == {"good": 1, "failed": 1}


async def test_a_service_gives_hosts_and_ports() -> None:
    async with zone() as (served, settings):
        replicas = empty_pool()
        source = UpstreamSettings(url=f"http://{SERVICE}", resolve="srv", engine="vllm", name="pods")
        discovery = Discovery(replicas, [source], settings, DnsResolver(settings))
        served.records[(SERVICE, "SRV")] = ["0 50 8000 a.pods.", "0 50 8001 b.pods."]
        served.records[("a.pods", "A")] = ["10.0.0.1"]
        served.records[("b.pods", "AAAA")] = ["fd00::b"]
        served.records[("b.pods", "A")] = []
        await discovery.start()
        found = {u.name: u.url for u in replicas.upstreams}
        assert found == {
            "pods/10.0.0.1:8000": "http://10.0.0.1:8000",
            "pods/[fd00::b]:8001": "http://[fd00::b]:8001",
        }
        assert ("a.pods", "AAAA") not in served.asked


async def test_two_names_for_one_replica_are_one_replica() -> None:
    async with zone() as (served, settings):
        replicas = empty_pool()
        sources = [host(), host("http://other:8000/base")]
        discovery = Discovery(replicas, sources, settings, DnsResolver(settings))
        served.records[(NAME, "A")] = served.records[("other", "A")] = ["10.0.0.1"]
        await discovery.start()
        await discovery.refresh(1)
        assert len(replicas.upstreams) == 1
        served.records[(NAME, "A")] = ["10.0.0.9"]
        await discovery.refresh(0)
        await discovery.refresh(1)
        assert [u.url for u in replicas.upstreams] == ["http://10.0.0.9:8000/base", "http://10.0.0.1:8000/base"]


async def test_a_name_unknown_at_the_start_is_asked_again_and_measured_acceptance_goes_along() -> None:
    async with zone() as (served, settings):
        served.records[("else", "A")] = ["10.0.0.5"]
        quick = DnsSettings(interval=0.05, most_interval=0.05, timeout=1.0, nameservers=settings.nameservers)
        replicas = empty_pool()
        discovery = Discovery(replicas, [host()], quick, DnsResolver(quick))
        await discovery.start()
        assert replicas.upstreams == []
        served.records[(NAME, "A")] = ["10.0.0.1"]
        running = asyncio.create_task(discovery.run())
        async with asyncio.timeout(3):
            while not replicas.upstreams:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [u.name for u in replicas.upstreams] == ["http://10.0.0.1:8000/base"]


def test_an_endpoint_is_the_upstream_with_the_address_for_the_name() -> None:
    source = UpstreamSettings(url="http://h:1/base", resolve="host", engine="sglang", num_speculative_tokens=3)
    one = endpoint(source, "fd00::1", 1)
    assert (one.url, one.name, one.resolve, one.engine) == ("http://[fd00::1]:1/base", "", None, "sglang")
    assert one.num_speculative_tokens == 3


async def test_an_address_that_is_in_the_list_already_stays_the_lists_own() -> None:
    async with zone() as (served, settings):
        listed = UpstreamSettings(url="http://10.0.0.1:8000", engine="vllm")
        replicas = UpstreamPool([listed], Baselines({}), TimeoutSettings(), VirtualClock())
        discovery = Discovery(replicas, [host(f"http://{NAME}:8000")], settings, DnsResolver(settings))
        for addresses in (["10.0.0.1", "10.0.0.2"], ["10.0.0.3"]):
            served.records[(NAME, "A")] = addresses
            await discovery.refresh(0)
            assert [u.url for u in replicas.upstreams] == [listed.url, f"http://{addresses[-1]}:8000"]
