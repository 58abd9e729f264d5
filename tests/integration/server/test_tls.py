"""Certificates on real connections: both ports, renewal while it runs, backends."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web

from guard.config import AdminListen, Listen, TlsSettings, UpstreamTlsSettings
from guard.errors import ConfigError
from guard.server.tls import client_context, server_context
from tests.integration.server.conftest import guarded
from tests.integration.server.test_security import BODY, CHAT
from tests.unit.core.transcript import DONE, chunk, policy


class Files:
    """An authority's own certificate, and those it signed, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, host: str = "127.0.0.1") -> tuple[str, str]:
        issued = self.authority.issue_cert(host)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return str(cert), str(key)

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@contextlib.asynccontextmanager
async def backend_with(context: ssl.SSLContext) -> AsyncIterator[str]:
    """A backend over TLS that streams one answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in (chunk("Hello"), chunk("", finish="stop"), DONE):
            await response.write(piece)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def serial(url: str, context: ssl.SSLContext) -> int:
    """Of the certificate that a port shows to a new connection."""
    port = int(url.rsplit(":", 1)[1])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("peercert")
    writer.close()
    return int(shown["serialNumber"], 16)


async def test_both_ports_speak_tls_and_a_renewed_certificate_needs_no_restart(files: Files) -> None:
    cert, key = files.issue("port")
    tls = TlsSettings(cert=cert, key=key)
    ports = {"listen": Listen(port=0, tls=tls), "admin": AdminListen(port=0, tls=tls)}
    backend_cert = files.issue("backend")
    context = server_context(TlsSettings(cert=backend_cert[0], key=backend_cert[1]), "listen")
    async with (
        backend_with(context) as upstream,
        guarded(upstream, policy=policy(), upstream_tls=UpstreamTlsSettings(ca=files.ca), **ports) as (running, client),
    ):
        mine = files.client()
        assert running.url.startswith("https://")
        async with client.post(running.url + CHAT, json=BODY, ssl=mine) as answer:
            assert "Hello" in await answer.text()
        async with client.get(running.admin_url + "/healthz", ssl=mine) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await client.get(running.url.replace("https", "http") + "/v1/models")
        old = await serial(running.url, mine)
        files.issue("port")
        for url in (running.url, running.admin_url):
            async with asyncio.timeout(5):
                while await serial(url, mine) == old:
                    await asyncio.sleep(0.05)


async def test_half_a_renewed_pair_is_not_used(files: Files) -> None:
    cert, key = files.issue("port")
    tls = TlsSettings(cert=cert, key=key)
    async with guarded("http://127.0.0.1:9", policy=policy(), listen=Listen(port=0, tls=tls)) as (running, _):
        old = await serial(running.url, files.client())
        Path(key).write_bytes(Path(files.issue("other")[1]).read_bytes())
        await asyncio.sleep(1.3)
        assert await serial(running.url, files.client()) == old


async def test_clients_without_a_certificate_are_refused_where_one_is_asked_for(files: Files) -> None:
    cert, key = files.issue("port")
    tls = TlsSettings(cert=cert, key=key, client_ca=files.ca)
    async with guarded("http://127.0.0.1:9", policy=policy(), listen=Listen(port=0, tls=tls)) as (running, client):
        with pytest.raises(aiohttp.ClientError):
            await client.get(running.url + "/v1/models", ssl=files.client())
        mine = files.client()
        mine.load_cert_chain(*files.issue("client"))
        async with client.get(running.url + "/v1/models", ssl=mine) as answer:
            assert answer.status == 502


async def test_a_backend_of_another_authority_gets_no_request(files: Files, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    cert, key = Files(other).issue("backend")
    context = server_context(TlsSettings(cert=cert, key=key), "listen")
    for tls in (UpstreamTlsSettings(ca=files.ca), UpstreamTlsSettings()):
        async with (
            backend_with(context) as upstream,
            guarded(upstream, policy=policy(attempts=1), upstream_tls=tls) as (running, client),
        ):
            for path in (CHAT, "/v1/models"):
                async with client.post(running.url + path, json=BODY) as answer:
                    assert answer.status == 502
                    assert "certificate verify failed" in (await answer.json())["error"]["message"]


async def test_a_backend_that_asks_for_a_certificate_gets_it(files: Files) -> None:
    cert, key = files.issue("backend")
    context = server_context(TlsSettings(cert=cert, key=key, client_ca=files.ca), "listen")
    mine = files.issue("guard")
    tls = UpstreamTlsSettings(ca=files.ca, cert=mine[0], key=mine[1])
    async with (
        backend_with(context) as upstream,
        guarded(upstream, policy=policy(attempts=1), upstream_tls=tls) as (running, client),
        client.post(running.url + CHAT, json=BODY) as answer,
    ):
        assert "Hello" in await answer.text()


def test_files_that_do_not_fit_are_named(files: Files, tmp_path: Path) -> None:
    cert, key = files.issue("one")
    _, other = files.issue("two")
    for settings in (
        TlsSettings(cert=cert, key=other),
        TlsSettings(cert=key, key=cert),
    ):
        with pytest.raises(ConfigError, match=r"listen.tls: .* are no certificate and its key"):
            server_context(settings, "listen")
    for settings in (TlsSettings(cert="/no", key=key), TlsSettings(cert=cert, key="/no")):
        with pytest.raises(ConfigError, match=r"^/no: listen.tls: cannot be read: No such file"):
            server_context(settings, "listen")
    bad = tmp_path / "bad"
    bad.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"upstream_tls.ca: .* holds no certificates"):
        client_context(UpstreamTlsSettings(ca=str(bad)))
    with pytest.raises(ConfigError, match=r"admin.tls.client_ca: .* holds no certificates"):
        server_context(TlsSettings(cert=cert, key=key, client_ca=str(bad)), "admin")


def test_nothing_below_tls_1_2(files: Files) -> None:
    cert, key = files.issue("one")
    made = [server_context(TlsSettings(cert=cert, key=key), "listen")]
    made += [client_context(UpstreamTlsSettings(ca=files.ca)), client_context(UpstreamTlsSettings(cert=cert, key=key))]
    for context in made:
        assert context is not None
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    for context in made[1:]:
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
