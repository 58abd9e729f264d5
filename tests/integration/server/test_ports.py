"""Where ports listen: `::` on all addresses of both families, and refusals with what to change."""

from __future__ import annotations

import errno
import socket

import aiohttp
import pytest

from guard.config import AccessSettings, AdminListen, Config, Listen, UpstreamSettings
from guard.errors import SetupError
from guard.policy.judge import Judge
from guard.server.ports import bound, refusals_told
from guard.server.run import running_guard
from tests.integration.server.conftest import QUIET
from tests.integration.server.fleet import fleet
from tests.unit.core.transcript import policy

NOBODY = "http://127.0.0.1:9"
TOKEN = "t" * 32


def answers(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def has_ipv6(host: str) -> bool:
    """Whether this machine can listen on an address of IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind((host, 0))
            return True
    except OSError:
        return False


def on(host: str) -> Config:
    return Config(
        upstreams=[UpstreamSettings(url=NOBODY, engine="vllm")],
        listen=Listen(host=host, port=0),
        admin=AdminListen(host=host, port=0),
        access=AccessSettings(admin_token=TOKEN),
        pool=QUIET,
    )


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


@pytest.mark.parametrize(
    ("host", "ipv4", "ipv6"),
    [("::", True, True), ("0:0:0:0:0:0:0:0", True, True), ("::1", False, True), ("0.0.0.0", True, False)],
)
async def test_all_addresses_are_those_of_both_families(host: str, ipv4: bool, ipv6: bool) -> None:
    """What a machine without IPv6 says of an address of it is an error that names the setting."""
    if ":" in host and not has_ipv6(host):
        with pytest.raises(SetupError, match=r"admin\.host"):
            async with running_guard(on(host), Judge(policy())):
                pass
        return
    async with running_guard(on(host), Judge(policy())) as running:
        for url in (running.url, running.admin_url):
            assert answers("127.0.0.1", port_of(url)) is ipv4
            assert answers("::1", port_of(url)) is (ipv6 and has_ipv6("::1"))
        async with aiohttp.ClientSession() as client:
            home = "127.0.0.1" if ipv4 else "[::1]"
            async with client.get(f"http://{home}:{port_of(running.url)}/v1/models") as response:
                assert response.status == 502  # the guard's own word of its backend


async def test_a_port_of_both_families_is_taken_when_one_of_them_is() -> None:
    if not has_ipv6("::"):
        return
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = Listen(host="::", port=port)
        config = Config(upstreams=[UpstreamSettings(url=NOBODY)], listen=taken, admin=AdminListen(port=0), pool=QUIET)
        with pytest.raises(SetupError, match=rf"cannot listen on \[::\]:{port}: .* in use; change listen\.port"):
            async with running_guard(config, Judge(policy())):
                pass


async def test_workers_listen_on_both_families_too() -> None:
    host = "::" if has_ipv6("::") else "0.0.0.0"
    async with fleet(NOBODY, "--host", host) as guard, aiohttp.ClientSession() as client:
        for home in ("127.0.0.1", "[::1]" if has_ipv6("::1") else "127.0.0.1"):
            async with client.get(f"http://{home}:{port_of(guard.url)}/v1/models") as response:
                assert response.status == 502


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EADDRINUSE, "Address already in use; change listen.port, or stop what uses it"),
        (errno.EACCES, "Permission denied; change listen.port: those below 1024 are the system's"),
        (errno.EADDRNOTAVAIL, "Cannot assign requested address; change listen.host to an address of this machine"),
        (errno.EAFNOSUPPORT, "change listen.host to an address of this machine"),
    ],
)
def test_a_refusal_says_what_to_change(number: int, remedy: str) -> None:
    with pytest.raises(SetupError) as caught, refusals_told(Listen(host="::1", port=80), "listen"):
        raise OSError(number, "error while attempting to bind on address ('::1', 80, 0, 0): whatever")
    assert str(caught.value).startswith("cannot listen on [::1]:80: ")
    assert str(caught.value).endswith(remedy)
    assert "attempting" not in str(caught.value)


async def test_a_name_that_nobody_knows_is_no_address() -> None:
    config = Config(
        upstreams=[UpstreamSettings(url=NOBODY)], listen=Listen(host="no.invalid", port=0), admin=AdminListen(port=0)
    )
    with pytest.raises(SetupError, match=r"cannot listen on no\.invalid:0: .*; change listen\.host"):
        async with running_guard(config, Judge(policy())):
            pass


def test_an_address_that_is_refused_leaves_no_socket_open() -> None:
    with bound(Listen(port=0)) as held:
        held.listen()
        with pytest.raises(OSError, match="in use"):
            bound(Listen(port=held.getsockname()[1]))
