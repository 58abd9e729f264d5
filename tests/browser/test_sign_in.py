"""The dashboard behind an admin token, in a real browser: signing in, what that leaves behind, signing out."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
import structlog
from aiohttp import web
from playwright.async_api import Browser, expect

from guard.config import AccessSettings
from tests.browser.conftest import opened, picture
from tests.browser.traffic import drive, fleet

TOKEN = "a token: with % & + signs"


@pytest.fixture(autouse=True)
def quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_from_a_link_through_the_form_to_the_exchange_and_out_again(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    async with fleet(tmp_path, access=AccessSettings(admin_token=TOKEN)) as (running, _):
        await drive(running.url, 3)
        dashboard = f"{running.admin_url}/dashboard"
        link = f"{dashboard}#/exchange/chat-0001"
        async with opened(browser, link, scheme=scheme) as (page, found):
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            # A link to one exchange: first the form, with the keyboard already in it.
            box = page.get_by_label("Admin token")
            await expect(box).to_be_focused()
            await picture(page, f"sign-in-{scheme}")
            await page.keyboard.type("not it")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("alert")).to_have_text("That is not the admin token.")
            await picture(page, f"sign-in-refused-{scheme}")
            await page.get_by_label("Admin token").fill(TOKEN)
            await page.get_by_role("button", name="Sign in").click()
            # There it leads.
            await expect(page.locator(".head-id")).to_have_text("chat-0001")
            assert page.url == link
            # What the browser has now: a cookie that no script reads, and the token nowhere.
            (cookie,) = await page.context.cookies()
            assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
            assert TOKEN not in cookie["value"]
            assert await page.evaluate("document.cookie + JSON.stringify({...localStorage, ...sessionStorage})") == "{}"
            assert not [url for url in asked if "token" in url.partition("/login")[2]]
            # The live feed is an EventSource, which can send no header: the cookie opens it.
            await page.goto(f"{dashboard}#/live")
            await expect(page.locator(".badge.good", has_text="Connected")).to_be_visible()
            # Out again, and what a page does once its session is over.
            await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
            other = await page.context.new_page()
            await other.goto(f"{dashboard}#/replicas")
            await expect(other.locator("h1").first).to_be_visible()
            await page.get_by_role("button", name="Sign out").click()
            await expect(page.get_by_label("Admin token")).to_be_visible()
            await expect(other.get_by_label("Admin token")).to_be_visible(timeout=15_000)
            assert other.url.endswith("/login#/replicas")
            assert await page.context.cookies() == []
            await page.go_back()
            await expect(page.get_by_label("Admin token")).to_be_visible()
            # The one complaint is the browser's own line on the wrong token.
            assert [line for line in found.console if "40" not in line] == []
            assert (found.policy, found.elsewhere) == ([], [])


async def test_a_link_on_another_site_finds_a_browser_that_has_signed_in(browser: Browser, tmp_path: Path) -> None:
    """A strict cookie does not come along with such a link; one must not have to sign in again all the same."""

    async def chat(_: web.Request) -> web.Response:
        return web.Response(text=f"<a href='{dashboard}#/policies'>look</a>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with fleet(tmp_path, access=AccessSettings(admin_token=TOKEN)) as (running, _):
        dashboard = f"{running.admin_url}/dashboard"
        async with opened(browser, dashboard) as (page, found):
            await page.get_by_label("Admin token").fill(TOKEN)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.locator(".banner")).to_be_visible()
            # Another site: localhost is one beside 127.0.0.1.
            await page.goto(f"http://localhost:{runner.addresses[0][1]}/")
            await page.get_by_text("look").click()
            await expect(page.locator("nav a[aria-current]")).to_have_text("Policies")
            assert found.policy == []
            # A page there cannot sign anybody out, nor read anything.
            await page.goto(f"http://localhost:{runner.addresses[0][1]}/")
            await page.evaluate(
                "url => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include'})",
                f"{running.admin_url}/logout",
            )
            await page.goto(dashboard)
            await expect(page.locator(".banner")).to_be_visible()
    await runner.cleanup()


async def test_no_backend_gets_the_cookie(browser: Browser, tmp_path: Path) -> None:
    """Browsers send a cookie to every port of a host; the guard's client port lets this one go no further."""
    async with fleet(tmp_path, access=AccessSettings(admin_token=TOKEN)) as (running, replicas):
        async with opened(browser, f"{running.admin_url}/dashboard") as (page, _):
            await page.get_by_label("Admin token").fill(TOKEN)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.locator(".banner")).to_be_visible()
            await page.goto(f"{running.url}/v1/models")
            cookies = await page.context.cookies(running.url)
        assert len(cookies) == 1
        headers = {"Cookie": f"mine=1; {cookies[0]['name']}={cookies[0]['value']}"}
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with (
            aiohttp.ClientSession() as client,
            client.post(running.url + "/v1/chat/completions", json=body, headers=headers) as answer,
        ):
            assert answer.status == 200
        seen = [cookie for replica in replicas for cookie in replica.cookies]
        assert seen
        assert not [text for text in seen if cookies[0]["value"] in text]
        assert seen[-1] == "mine=1"
