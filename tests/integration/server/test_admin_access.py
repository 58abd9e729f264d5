"""The admin port: who may ask."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from guard.config import AccessSettings, AdminListen, Config, load
from guard.errors import ConfigError
from guard.server.admin_access import is_here, tokens
from tests.integration.server.conftest import guarded
from tests.unit.core.transcript import policy

NOWHERE = "http://127.0.0.1:9"
PATHS = ["/metrics", "/guard/requests", "/guard/requests/x", "/guard/policies", "/guard/live", "/guard/baselines"]


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def test_it_is_loopback_unless_told_otherwise() -> None:
    config = Config(upstreams=[])
    assert config.admin.loopback
    for host in ("127.9.9.9", "::1", "localhost"):
        assert AdminListen(host=host).loopback
    for host in ("0.0.0.0", "::", "10.0.0.1", "127.example.org", "localhost.example.org", ""):
        assert not AdminListen(host=host).loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_elsewhere_it_does_not_start_without_a_token(host: str) -> None:
    variables = {"GUARD_UPSTREAMS_0_URL": NOWHERE, "GUARD_ADMIN_HOST": host}
    with pytest.raises(ConfigError, match=r"set access.admin_token_file"):
        load(None, variables)
    assert load(None, {**variables, "GUARD_ACCESS_ADMIN_TOKEN": "t"}).config.admin.host == host


async def test_with_a_token_all_but_health_needs_it() -> None:
    async with guarded(NOWHERE, policy=policy(), access=AccessSettings(admin_token="t0ken")) as (running, client):

        async def status(path: str, **how: object) -> int:
            async with client.get(running.admin_url + path, **how) as answer:  # type: ignore[arg-type]
                return answer.status

        for path in ("/healthz", "/readyz"):
            assert await status(path) == 200
        for path in [*PATHS, "/none-such"]:
            assert await status(path) == 401
            for wrong in ("Bearer t0ke", "Bearer t0ken2", "Basic !", "Bearer", "t0ken"):
                assert await status(path, headers={"Authorization": wrong}) == 401
        assert await status("/metrics", headers={"Authorization": "Bearer t0ken"}) == 200
        assert await status("/metrics", headers={"Authorization": basic("anyone:t0ken")}) == 200
        assert await status("/metrics", headers={"Authorization": basic("t0ken:")}) == 401


async def test_browsers_are_asked_for_a_password() -> None:
    async with (
        guarded(NOWHERE, policy=policy(), access=AccessSettings(admin_token="t")) as (running, client),
        client.get(running.admin_url + "/metrics") as answer,
    ):
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


SIGN_IN = {"token": "t0ken"}


async def test_signing_in_gives_a_session_that_holds_no_token_and_ends_when_signed_out() -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    access = AccessSettings(admin_token="t0ken")
    async with (
        guarded(NOWHERE, policy=policy(), access=access) as (running, _),
        aiohttp.ClientSession(cookie_jar=jar) as client,
    ):
        admin = running.admin_url

        async def status(path: str) -> int:
            async with client.get(admin + path) as answer:
                return answer.status

        for wrong in ("t0ke", "", "t0ken2", "t0ken\xff"):
            async with client.post(admin + "/login", data={"token": wrong}) as answer:
                assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)
        async with client.post(admin + "/login", data=SIGN_IN, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "dashboard")
            cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "t0ken" not in cookie
        assert await status("/guard/requests") == await status("/dashboard") == 200
        for foreign in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            async with client.post(admin + "/logout", headers=foreign) as answer:
                assert answer.status == 403
        kept = {cookie.key: cookie.value for cookie in jar}
        async with client.post(admin + "/logout") as answer:
            assert answer.status == 204
        # The browser forgets the cookie; one that was copied is worth nothing either.
        assert not list(jar)
        jar.update_cookies(kept, URL(admin))
        assert await status("/guard/requests") == 401


async def test_a_page_of_another_site_signs_nobody_in() -> None:
    async with guarded(NOWHERE, policy=policy(), access=AccessSettings(admin_token="t0ken")) as (running, client):
        for foreign in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            async with client.post(running.admin_url + "/login", data=SIGN_IN, headers=foreign) as answer:
                assert answer.status == 403
                assert "Set-Cookie" not in answer.headers
        for form in ({"json": SIGN_IN}, {"data": {"token": "t" * 9000}}):
            async with client.post(running.admin_url + "/login", **form) as answer:  # type: ignore[arg-type]
                assert answer.status == 400


async def test_a_browser_is_led_to_the_form_and_programs_are_told() -> None:
    async with guarded(NOWHERE, policy=policy(), access=AccessSettings(admin_token="t0ken")) as (running, client):
        html = {"Accept": "text/html,*/*;q=0.8"}
        for path, to in (("/dashboard", "login"), ("/dashboard/", "../login")):
            async with client.get(running.admin_url + path, headers=html, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, to)
        async with client.get(running.admin_url + "/login", headers=html) as answer:
            assert answer.status == 200
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        # A script of the page: the browser must not ask for a password by itself.
        async with client.get(running.admin_url + "/guard/status", headers={"Sec-Fetch-Mode": "cors"}) as answer:
            assert (answer.status, answer.headers["WWW-Authenticate"].split()[0]) == (401, "Bearer")


async def test_a_new_token_ends_all_sessions(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("t0ken\n")
    jar = aiohttp.CookieJar(unsafe=True)
    access = AccessSettings(admin_token_file=str(path))
    async with (
        guarded(NOWHERE, policy=policy(), access=access) as (running, _),
        aiohttp.ClientSession(cookie_jar=jar) as client,
    ):
        async with client.post(running.admin_url + "/login", data=SIGN_IN, allow_redirects=False) as answer:
            assert answer.status == 303

        async def over() -> None:
            while True:
                async with client.get(running.admin_url + "/metrics") as answer:
                    if answer.status == 401:
                        return
                await asyncio.sleep(0.05)

        path.write_text("an0ther\n")
        await asyncio.wait_for(over(), 10)


async def test_without_a_token_there_is_nothing_to_sign_in_at() -> None:
    async with (
        guarded(NOWHERE, policy=policy()) as (running, client),
        client.get(running.admin_url + "/login") as answer,
    ):
        assert answer.status == 404


async def test_a_token_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    access = AccessSettings(admin_token_file=str(path))
    async with guarded(NOWHERE, policy=policy(), access=access) as (running, client):

        async def status(token: str) -> int:
            async with client.get(running.admin_url + "/metrics", headers={"Authorization": f"Bearer {token}"}) as a:
                return a.status

        async def renewed() -> None:
            while await status("two") != 200:
                await asyncio.sleep(0.05)

        assert await status("one") == 200
        path.write_text("two-and\n")
        path.write_text("two\n")
        await asyncio.wait_for(renewed(), 10)
        assert await status("one") == 401


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", ""])
async def test_without_a_token_a_name_that_others_control_is_refused(host: str) -> None:
    """DNS rebinding: a page's own name, pointed at this machine."""
    async with guarded(NOWHERE, policy=policy()) as (running, client):
        for path in PATHS:
            async with client.get(running.admin_url + path, headers={"Host": host}) as answer:
                assert answer.status == 403
        async with client.get(running.admin_url + "/metrics", headers={"Host": "localhost:8001"}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://["}, {"Sec-Fetch-Site": "cross-site"}],
)
async def test_a_page_of_another_site_changes_nothing(headers: dict[str, str]) -> None:
    async with guarded(NOWHERE, policy=policy()) as (running, client):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            async with client.request(method, running.admin_url + "/guard/policies", headers=headers) as answer:
                assert answer.status == 403
        own = {"Origin": running.admin_url, "Sec-Fetch-Site": "same-origin"}
        async with client.post(running.admin_url + "/guard/policies", headers=own) as answer:
            assert answer.status == 405


@given(st.text(), st.text())
def test_no_header_breaks_the_check(authorization: str, host: str) -> None:
    assert all(isinstance(token, bytes) for token in tokens(authorization))
    assert is_here(host) in (True, False)
