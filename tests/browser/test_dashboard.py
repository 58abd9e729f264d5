"""The dashboard in a real browser, before real recorded streams of which some are bad."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
import structlog
from playwright.async_api import Browser, Page, expect

from guard.fleet.settings import QualitySettings
from tests.browser.conftest import opened, picture
from tests.browser.traffic import drive, fleet
from tests.integration.server.conftest import QUIET

PAGES = ("#/", "#/live", "#/exchanges", "#/replicas", "#/policies", "#/exchange/not-there")


@pytest.fixture(autouse=True)
def quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


async def overflow(page: Page) -> int:
    """By how much the page is wider than the window. Unit: pixels."""
    return int(await page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


async def test_from_the_overview_to_the_reason_and_a_what_if(browser: Browser, tmp_path: Path) -> None:
    async with fleet(tmp_path, share=0.8) as (running, _):
        await drive(running.url, 40)
        admin = running.admin_url
        async with opened(browser, f"{admin}/dashboard") as (page, found):
            # The overview says what is wrong, and where.
            await expect(page.locator(".banner")).to_contain_text("gpu-2")
            await expect(page.locator(".tile", has_text="Anomalies")).to_contain_text("per 10,000")
            await page.get_by_role("button", name="5 min", exact=True).click()
            await picture(page, "overview-incident-light", whole=True)
            # From there to one bad exchange.
            row = page.locator("tr", has_text="Garbled").first
            name = await row.locator("a").first.inner_text()
            await row.locator("a").first.click()
            await expect(page.locator(".head-id")).to_have_text(name)
            # Why: the rule, and each reading against its threshold.
            verdict = page.locator(".verdict")
            await expect(verdict).to_contain_text("Why: rule")
            record = running.guard.records.get(name)
            assert record is not None
            await expect(verdict).to_contain_text(record.attempts[0].rule)
            await expect(verdict.locator("tbody tr")).to_have_count(len(record.attempts[0].findings))
            await expect(page.locator(".attempt")).to_have_count(len(record.attempts))
            await expect(page.locator(".said .after-onset").first).to_be_visible()
            bad_shown = page.locator(".facts > div", has_text="Bad tokens shown").locator("dd")
            await expect(bad_shown).to_have_text(str(record.bad_tokens_shown))
            await picture(page, "exchange-light", whole=True)
            # Other thresholds for that rule, on what was recorded.
            await page.get_by_role("link", name="Try other thresholds").click()
            await expect(page.locator("details[open] summary")).to_contain_text(record.attempts[0].rule)
            await page.get_by_role("button", name="Reset").is_disabled()
            box = page.locator("details[open] .leaf").first.get_by_label(" to")
            await box.focus()
            # So far that the rule decides later, or no longer.
            await box.fill("0.01" if await box.input_value() == "0.2" else "0.99")
            await page.get_by_label("act_at").fill("2")
            await page.get_by_role("button", name="Try on recorded streams").click()
            await expect(page.locator("aside .error")).to_contain_text("act_at", timeout=60_000)
            await page.get_by_label("act_at").fill("1")
            await page.get_by_role("button", name="Try on recorded streams").click()
            await expect(page.locator(".compare")).to_contain_text("Streams stopped", timeout=60_000)
            await expect(page.locator(".changes > div").first).to_contain_text(record.attempts[0].rule)
            await expect(page.locator("aside")).not_to_contain_text("null")
            await picture(page, "what-if-light")
            # The one complaint is the browser's own line on the refused try.
            assert [line for line in found.console if "400" not in line] == []
            assert found.policy == []
            assert found.elsewhere == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("light", 900), ("dark", 1440), ("dark", 900)])
async def test_every_page_fits_and_complains_of_nothing(
    browser: Browser, tmp_path: Path, scheme: str, width: int
) -> None:
    async with fleet(tmp_path, share=0.7) as (running, _):
        await drive(running.url, 24)
        url = f"{running.admin_url}/dashboard"
        async with opened(browser, url, scheme=scheme, width=width) as (page, found):
            for address in PAGES:
                await page.goto(url + address)
                await page.wait_for_timeout(300)
                await expect(page.locator("main")).not_to_be_empty()
                assert await overflow(page) <= 0, address
                await picture(page, f"{address[2:].replace('/', '-') or 'overview'}-{scheme}-{width}", whole=True)
            background = await page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
            assert (background == "rgb(14, 19, 26)") == (scheme == "dark")
        assert [line for line in found.console if "404" not in line] == []  # the exchange that is not there
        assert found.policy == []
        assert found.elsewhere == []


async def test_what_is_only_noted_is_not_called_rescued(browser: Browser, tmp_path: Path) -> None:
    async with fleet(tmp_path, share=1.0, policy="observe") as (running, _):
        await drive(running.url, 10)
        await running.settled()
        async with opened(browser, f"{running.admin_url}/dashboard") as (page, _):
            await expect(page.locator(".banner")).to_contain_text("only noted: the clients got the text")
            await expect(page.locator(".banner")).not_to_contain_text("rescued")
            await expect(page.locator(".tile", has_text="Rescued")).to_contain_text("only noted")


async def test_a_narrow_window_shows_the_way_to_every_page(browser: Browser, tmp_path: Path) -> None:
    async with (
        fleet(tmp_path) as (running, _),
        opened(browser, f"{running.admin_url}/dashboard", width=390, height=844) as (page, _),
    ):
        await expect(page.locator("nav a", has_text="Policies")).to_be_in_viewport(ratio=1)


async def test_before_any_traffic_each_page_says_so(browser: Browser, tmp_path: Path) -> None:
    async with fleet(tmp_path) as (running, _), opened(browser, f"{running.admin_url}/dashboard") as (page, found):
        await expect(page.locator(".banner")).to_contain_text("No traffic")
        await page.keyboard.press("g")
        await page.keyboard.press("l")
        # By its text: the page before may still be there, with empty places of its own.
        await expect(page.locator(".empty", has_text="No stream in flight")).to_be_visible()
        await page.keyboard.press("g")
        await page.keyboard.press("e")
        await expect(page.locator(".empty", has_text="No such exchange")).to_be_visible()
        assert (found.console, found.policy) == ([], [])


async def test_live_streams_come_and_go(browser: Browser, tmp_path: Path) -> None:
    async with (
        fleet(tmp_path, share=0.0, pace=40.0) as (running, _),
        opened(browser, f"{running.admin_url}/dashboard#/live") as (page, found),
    ):
        await expect(page.locator(".badge.good", has_text="Connected")).to_be_visible()
        traffic = asyncio.create_task(drive(running.url, 12, at_once=12))
        await expect(page.locator(".live-body .live-row:visible")).to_have_count(12, timeout=15_000)
        # The keyboard walks through the rows.
        await page.locator(".live-view").focus()
        await page.keyboard.press("ArrowDown")
        focused = await page.evaluate("document.activeElement.getAttribute('href')")
        assert focused.startswith("#/exchange/chat-")
        await page.get_by_label("Filter streams").fill("chat-0003")
        await expect(page.locator(".live-body .live-row:visible")).to_have_count(1)
        await traffic
        await expect(page.locator(".live-body .live-row:visible .badge")).to_have_text("Healthy", timeout=15_000)
        assert (found.console, found.policy) == ([], [])


async def test_names_from_clients_are_never_markup(browser: Browser, tmp_path: Path) -> None:
    evil = "<img src=x onerror=refused('run')>"
    async with fleet(tmp_path, share=0.0) as (running, _):
        import aiohttp  # noqa: PLC0415 - only this test speaks to the guard by itself

        body = {"model": evil, "stream": False, "messages": [{"role": "user", "content": "hi"}]}
        async with (
            aiohttp.ClientSession() as client,
            client.post(running.url + "/v1/chat/completions", json=body, headers={"X-Request-Id": "evil"}) as reply,
        ):
            assert reply.status == 200
        async with opened(browser, f"{running.admin_url}/dashboard") as (page, found):
            await expect(page.get_by_text(evil).first).to_be_visible()
            await page.goto(f"{running.admin_url}/dashboard#/exchange/evil")
            await expect(page.get_by_text(evil).first).to_be_visible()
            assert (found.console, found.policy, found.elsewhere) == ([], [], [])


async def test_a_replica_that_begins_to_stand_out_is_shown_as_suspect(browser: Browser, tmp_path: Path) -> None:
    """It is not left out yet, but its answers need less evidence to be tried again."""
    pool = msgspec.structs.replace(QUIET, quality=QualitySettings(sample=1000))
    async with fleet(tmp_path, share=0.8, pool=pool) as (running, _):
        await drive(running.url, 40)
        async with opened(browser, f"{running.admin_url}/dashboard#/replicas") as (page, found):
            card = page.locator(".replica", has_text="gpu-2")
            await expect(card.locator(".badge")).to_have_text("Serving")
            await expect(card).to_contain_text("Suspect, so that less evidence is enough", timeout=15_000)
            await expect(page.locator(".replica", has_text="gpu-1")).not_to_contain_text("Suspect")
            await picture(page, "replicas-suspect-light", whole=True)
            assert (found.console, found.policy, found.elsewhere) == ([], [], [])
