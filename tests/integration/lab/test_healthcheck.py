"""`guard healthcheck` against a real guard."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard.cli import main
from guard.config import load_config
from guard.lab.healthcheck import admin_url, healthcheck_command
from guard.lab.ports import free_port
from tests.integration.server.conftest import guarded
from tests.integration.server.test_tls import Files
from tests.unit.core.transcript import policy


async def test_ready_draining_gone() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, _):
        url = running.admin_url
        assert await asyncio.to_thread(healthcheck_command, url) == 0
        running.guard.draining = True
        assert await asyncio.to_thread(healthcheck_command, url) == 1
    assert await asyncio.to_thread(healthcheck_command, url) == 1


async def test_another_port_than_the_admin_port_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, _):
        assert await asyncio.to_thread(healthcheck_command, running.url) == 1
    said = capsys.readouterr().err
    assert said == f"{running.url}/readyz: status 502, which the admin port of a guard does not answer here\n"


async def test_it_waits_for_a_guard_that_is_not_ready_yet() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, _):
        running.guard.draining = True
        asking = asyncio.create_task(asyncio.to_thread(healthcheck_command, running.admin_url, 30.0))
        done, _ = await asyncio.wait({asking}, timeout=0.5)
        assert not done
        running.guard.draining = False
        assert await asyncio.wait_for(asking, 10) == 0
        running.guard.draining = True
        assert await asyncio.to_thread(healthcheck_command, running.admin_url, 0.2) == 1


@pytest.mark.parametrize("mutual", [False, True], ids=["", "clients show a certificate"])
async def test_a_guard_is_found_by_its_configuration(mutual: bool, tmp_path: Path) -> None:
    files = Files(tmp_path)
    cert, key = files.issue("admin")
    tls = {"cert": cert, "key": key} | ({"client_ca": files.ca} if mutual else {})
    text: dict[str, Any] = {"upstreams": [{"url": "http://127.0.0.1:9"}], "admin": {"port": free_port(), "tls": tls}}
    file = tmp_path / "guard.yaml"
    file.write_text(yaml.safe_dump(text))
    config = load_config(file)
    async with guarded("http://127.0.0.1:9", policy=policy(), admin=config.admin):
        assert await asyncio.to_thread(main, ["healthcheck", "--config", str(file)]) == 0
        # What else has become wrong in the file since the guard read it is no reason to call it dead.
        file.write_text(yaml.safe_dump(text | {"polcy": "default", "access": {"keys": 3}}))
        assert await asyncio.to_thread(main, ["healthcheck", "--config", str(file)]) == 0
    assert await asyncio.to_thread(main, ["healthcheck", "--config", str(file)]) == 1


def test_variables_come_before_the_file_as_they_do_for_serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text("admin: {host: 0.0.0.0, port: 9001}\naccess: {admin_token: t}\n")
    assert admin_url(file) == "http://127.0.0.1:9001"
    monkeypatch.setenv("GUARD_ADMIN_PORT", "9002")
    assert admin_url(file) == "http://127.0.0.1:9002"
    monkeypatch.setenv("GUARD_CONFIG", str(file))
    monkeypatch.setenv("GUARD_ADMIN_PORT", "")
    assert admin_url() == "http://127.0.0.1:9001"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("admin: {prot: 9001}", "guard.yaml:1: admin.prot: unknown setting 'prot'; did you mean 'port'?"),
        ("admin: {port: 0}", "guard.yaml:1: admin.port: a free port is taken for 0; give --url, as the guard tells it"),
        ("admin: [", "guard.yaml:1: not valid YAML"),
    ],
)
def test_a_configuration_that_does_not_say_where_is_named(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(text)
    assert main(["healthcheck", "--config", str(file)]) == 2
    assert says in capsys.readouterr().err


def test_url_and_config_are_two_answers_to_one_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["healthcheck", "--config", "guard.yaml", "--url", "http://127.0.0.1:1"]) == 2
    assert "guard: --url: give it or --config, not both" in capsys.readouterr().err


def test_the_address_comes_from_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert admin_url() == "http://127.0.0.1:8001"
    monkeypatch.setenv("GUARD_ADMIN_HOST", "::")
    monkeypatch.setenv("GUARD_ADMIN_PORT", "9001")
    monkeypatch.setenv("GUARD_ACCESS_ADMIN_TOKEN", "t")
    assert admin_url() == "http://[::1]:9001"
