"""A real browser, and what it complains of."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
#: Pictures go here when it is set, to be looked at.
PICTURES = os.environ.get("GUARD_PICTURES")


@dataclass
class Complaints:
    """What a page should have none of."""

    console: list[str] = field(default_factory=list)
    policy: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        found = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=ARGS)
        yield found
        await found.close()


@contextlib.asynccontextmanager
async def opened(
    browser: Browser, url: str, *, scheme: str = "light", width: int = 1440, height: int = 1000
) -> AsyncIterator[tuple[Page, Complaints]]:
    """A page at an address, with all it complains of by the end."""
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page = await context.new_page()
    found = Complaints()

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.console.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith(url.split("/dashboard", maxsplit=1)[0]):
            found.elsewhere.append(request.url)

    def refused(directive: str) -> None:
        found.policy.append(directive)

    page.on("console", heard)
    page.on("pageerror", lambda error: found.console.append(str(error)))
    page.on("request", asked)
    await page.expose_function("refused", refused)
    await page.add_init_script(
        "document.addEventListener('securitypolicyviolation', (e) => window.refused(e.violatedDirective))"
    )
    await page.goto(url)
    try:
        yield page, found
    finally:
        await context.close()


async def picture(page: Page, name: str, *, whole: bool = False) -> bytes:
    """A picture of the page; kept when GUARD_PICTURES names a folder."""
    path = Path(PICTURES) / f"{name}.png" if PICTURES else None
    return await page.screenshot(path=path, full_page=whole)
