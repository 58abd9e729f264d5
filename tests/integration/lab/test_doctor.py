"""`guard doctor` against the embedded backend, and against backends that lack something."""

from __future__ import annotations

import asyncio
import json

import pytest

from guard.cli import main
from guard.lab.doctor import Diagnosis, HttpxAsker, diagnose
from guard.server.probes import Backend, Check, State
from tests.integration.conftest import LiveBackend
from tests.integration.server.scripted_engine import engine


@pytest.mark.embedded
def test_the_embedded_backend_has_all_but_re_scoring(embedded: LiveBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--upstream", embedded.url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["engine"], told["signal_live"], told["abort_works"]) == ("llama.cpp", True, True)
    assert (told["resume_works"], told["resume_completions_works"], told["cache_bypass_works"]) == (True, True, True)
    assert told["rescoring_works"] is told["withdrawal_works"] is False
    details = {check["name"]: check["detail"] for check in told["checks"]}
    assert "accepted draft tokens" in details["rescoring"]
    assert told["ok"] is True


async def test_what_is_missing_comes_with_what_to_do() -> None:
    async with engine(bypasses=False, continues=False) as scripted, HttpxAsker(scripted.url) as asker:
        found = await diagnose(scripted.url, asker)
    assert not found.ok
    assert found.state("abort") is State.YES
    assert found.as_json()["cache_bypass_works"] is False
    table, _, remedies = found.as_text().partition("What to do:")
    for name in ("resume_chat", "cache_bypass"):
        assert f"{name}" in table
        assert name in remedies
    assert "use several replicas" in remedies


def test_a_base_url_as_clients_have_it_is_found_out() -> None:
    checks = (Check("signal", State.NO, "no verify step was seen", "policies judge its text alone"),)
    said = Diagnosis("http://h:1/v1/", Backend("text", ""), checks).as_text()
    assert "try http://h:1, " in said
    assert "policies judge its text alone" not in said
    assert "policies judge its text alone" in Diagnosis("http://h:1/v1", Backend("text", "", "m"), checks).as_text()


async def test_it_asks_the_backend_and_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with engine() as scripted, HttpxAsker(scripted.url) as asker:
        assert (await diagnose(scripted.url, asker)).state("abort") is State.YES


def test_a_backend_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    async def gone() -> str:
        async with engine() as scripted:
            return scripted.url

    assert main(["doctor", "--upstream", asyncio.run(gone())]) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert main(["doctor", "--upstream", "nowhere"]) == 2
