"""The HTML report of a backtest, in a window as narrow as a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from guard.lab.backtest import figures
from guard.lab.cases import read_cases
from guard.lab.report import DrawnCases, draw, write_report
from guard.lab.tries import Drawing, backtest
from guard.shipped import find_policy
from tests.browser.conftest import opened, picture
from tests.browser.test_dashboard import overflow
from tests.unit.lab.streams import corpus, policy_file


@pytest.mark.parametrize("width", [320, 390, 800, 1440])
async def test_no_page_is_wider_than_its_window(browser: Browser, tmp_path: Path, width: int) -> None:
    policy = find_policy(policy_file(tmp_path))
    out, long = tmp_path / "report.html", f"Of {tmp_path}/{'very_long_name_without_a_space_' * 6}.jsonl."
    with DrawnCases() as drawn:
        tried = backtest(policy, list(read_cases(corpus(tmp_path))), drawing=Drawing(draw, drawn.keep))
        write_report(out, policy, figures(policy.name, tried), tried, drawn, [long])
    async with opened(browser, out.as_uri(), width=width, height=844) as (page, found):
        assert await overflow(page) <= 0
        for case in await page.locator("summary").all():
            await case.click()
        await expect(page.locator("details[open]")).to_have_count(len(tried))
        assert await overflow(page) <= 0
        # What is wider scrolls for itself.
        last = page.locator("table").first.locator("th").last
        await last.scroll_into_view_if_needed()
        await expect(last).to_be_in_viewport(ratio=0.9)
        assert await overflow(page) <= 0
        await picture(page, f"report-{width}", whole=True)
        assert (found.console, found.policy, found.elsewhere) == ([], [], [])
