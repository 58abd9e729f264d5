"""The nginx example, run for real."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from guard.lab.ports import free_port
from tests.integration.deploy import front
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import Backend, backend
from tests.unit.core.transcript import policy

EXAMPLE = (Path(__file__).parents[3] / "deploy/nginx/guard.conf").read_text(encoding="utf-8")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") or "nginx"
MAIN = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/guard.conf;
}}
"""


@contextlib.asynccontextmanager
async def nginx(urls: list[str], folder: Path) -> AsyncIterator[str]:
    """The example in front of guards, on a free port."""
    port = free_port()
    text = EXAMPLE.replace("listen 80;", f"listen 127.0.0.1:{port};")
    servers = [f"server {url.removeprefix('http://')} max_fails=1 fail_timeout=5s;" for url in urls]
    text = text.replace("server 127.0.0.1:8000;", "\n".join(servers), 1)
    (folder / "guard.conf").write_text(text)
    # Its workers would be nobody, who may not look into this folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(user + MAIN.format(folder=folder))
    async with front.running(NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), port=port):
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def stack(script: object, folder: Path) -> AsyncIterator[tuple[str, Backend, aiohttp.ClientSession]]:
    async with (
        backend(script) as upstream,  # type: ignore[arg-type]
        guarded(upstream.url, policy=policy()) as (running, client),
        nginx([running.url], folder) as url,
    ):
        yield url, upstream, client


async def test_chunks_arrive_one_by_one(tmp_path: Path) -> None:
    async with stack(front.slow_words, tmp_path) as (url, _, client):
        await front.check_chunks_arrive_one_by_one(client, url)


async def test_a_client_that_leaves_ends_the_generation(tmp_path: Path) -> None:
    async with stack(front.endless, tmp_path) as (url, upstream, client):
        await front.check_a_client_that_leaves_ends_the_generation(client, url, upstream)


async def test_requests_of_two_clients_share_connections_to_the_guard_and_pass_large_bodies(tmp_path: Path) -> None:
    async with stack(lambda _: [*front.slow_words(1)[:2], b"data: [DONE]\n\n"], tmp_path) as (url, upstream, client):
        large = {**front.BODY, "messages": [{"role": "user", "content": "x" * 5_000_000}]}
        async with client.post(url + front.CHAT, json=large) as answer:
            assert answer.status == 200
            await answer.read()
        assert len(upstream.requests[0].body) > 5_000_000


async def test_what_a_guard_took_is_not_asked_of_another(tmp_path: Path) -> None:
    """It takes a request and goes without a word, as one that was killed: it may have been generated already."""
    async with (
        backend(lambda _: []) as one,
        backend(lambda _: []) as two,
        nginx([one.url, two.url], tmp_path) as url,
        aiohttp.ClientSession() as client,
        client.post(url + front.CHAT, json=front.BODY) as answer,
    ):
        assert answer.status == 502
    assert len(one.requests) + len(two.requests) == 1


async def test_a_guard_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    answer = [*front.slow_words(1)[:2], b"data: [DONE]\n\n"]
    gone = f"http://127.0.0.1:{free_port()}"
    async with (
        backend(lambda _: list(answer)) as upstream,
        nginx([gone, upstream.url], tmp_path) as url,
        aiohttp.ClientSession() as client,
    ):
        for _ in range(2):
            async with client.post(url + front.CHAT, json=front.BODY) as reply:
                assert reply.status == 200
