"""A real model whose cache is really corrupted, and how the dashboard tells it."""

from __future__ import annotations

import msgspec
import pytest
import structlog
from playwright.async_api import Browser, expect

from guard.config import Config, Listen, UpstreamSettings
from guard.lab.baseline import find_baseline
from guard.lab.draft import DEFAULT_DRAFT
from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions
from guard.lab.faulty import FaultyReplica
from guard.lab.inject import FaultPlan
from guard.lab.progress import best_progress
from guard.lab.story import Stage
from guard.policy.judge import Judge
from guard.policy.schema import HoldBack, HoldMode
from guard.server.run import running_guard
from guard.shipped import find_policy
from tests.browser.conftest import opened, picture

pytestmark = pytest.mark.embedded


async def test_noise_in_a_running_cache_is_told_from_overview_to_reason(browser: Browser) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    policy = msgspec.structs.replace(find_policy("default"), hold_back=HoldBack(mode=HoldMode.WINDOW, window=64))
    options = EmbeddedOptions(num_slots=1, allow_faults=True)
    async with EmbeddedBackend(options, best_progress()) as backend:
        faulty = FaultyReplica(backend.url, backend.slots_folder, order=backend.order)
        baseline = find_baseline(DEFAULT_DRAFT, backend.num_speculative_tokens)
        async with faulty as replica:
            upstream = UpstreamSettings(url=replica.url, name="llama-1")
            config = Config(upstreams=[upstream], listen=Listen(port=0), admin=Listen(port=0))
            async with running_guard(config, Judge(policy), {replica.url: baseline}) as running:
                stage = Stage(running.url, running.admin_url, replica)
                stage.healthy = await stage.ask("healthy", lambda *_: None)
                outcome, answer = await stage.spoil(FaultPlan("noise", onset_token=60), lambda *_: None)
                assert outcome.rescued
                async with opened(browser, f"{running.admin_url}/dashboard") as (page, found):
                    await expect(page.locator(".banner")).to_contain_text("1 anomaly in 2 requests")
                    await page.locator("tr", has_text="Rescued").locator("a").first.click()
                    await expect(page.locator(".verdict")).to_contain_text(answer.record.attempts[0].rule)
                    await expect(page.locator(".panel", has_text="What the client saw")).to_contain_text("never sent")
                    await picture(page, "embedded-incident-light", whole=True)
                    await page.emulate_media(color_scheme="dark")
                    await page.wait_for_timeout(300)
                    await picture(page, "embedded-incident-dark", whole=True)
                    assert (found.console, found.policy, found.elsewhere) == ([], [], [])
