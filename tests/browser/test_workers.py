"""The dashboard of `guard serve --workers 2` in a real browser: one guard to look at."""

from __future__ import annotations

import asyncio

from playwright.async_api import Browser, expect

from tests.browser.conftest import opened, picture
from tests.browser.traffic import GOOD, Replica, cases, drive
from tests.integration.server.fleet import fleet

STREAMS = 12


async def test_streams_and_figures_of_both_workers_are_on_one_page(browser: Browser) -> None:
    replica = Replica(cases(*GOOD), pace=40.0)
    async with (
        replica.serving(),
        fleet(replica.url) as guard,
        opened(browser, f"{guard.admin}/dashboard#/live") as (page, found),
    ):
        await expect(page.locator(".badge.good", has_text="Connected")).to_be_visible()
        await expect(page.locator("#status")).to_contain_text("2 of 2 workers")
        traffic = asyncio.create_task(drive(guard.url, STREAMS, at_once=STREAMS))
        # Both workers count their streams from one: none may stand in the other's row.
        await expect(page.locator(".live-body .live-row:visible")).to_have_count(STREAMS, timeout=30_000)
        await expect(page.locator(".page-head b")).to_have_text(str(STREAMS))
        await picture(page, "live-workers-light")
        name = await page.locator(".live-body .live-row:visible a").first.inner_text()
        await traffic
        await page.goto(f"{guard.admin}/dashboard#/exchange/{name}")
        await expect(page.locator(".head-id")).to_have_text(name)
        await page.goto(f"{guard.admin}/dashboard#/")
        await expect(page.locator(".tile", has_text="Requests").locator(".tile-value")).to_have_text(str(STREAMS))
        await page.goto(f"{guard.admin}/dashboard#/replicas")
        await expect(page.locator(".replica .facts > div", has_text="Attempts").first).to_contain_text(str(STREAMS))
        assert (found.console, found.policy, found.elsewhere) == ([], [], [])
