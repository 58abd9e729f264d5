"""guard.backend.vllm.plugin: what it cannot do it refuses by name, and never stops vLLM."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import pytest

from guard.backend.vllm import plugin
from guard.backend.vllm.plugin import install_acceptance, install_race_free, register

LOGGER = "vllm.plugins.guard"


def nothing(_: str) -> str | None:
    return None


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, LOGGER)
    return caplog


def test_an_unknown_release_is_refused_with_those_known(log: pytest.LogCaptureFixture) -> None:
    assert not install_acceptance("0.99.1", environ={}, read=nothing)
    assert "REFUSED to patch vLLM 0.99.1: release line 0.99 is not known; known are 0.32, 0.33" in log.text
    assert "vLLM serves on" in log.text


def test_a_hook_that_is_gone_is_refused_by_name(log: pytest.LogCaptureFixture) -> None:
    assert not install_acceptance("0.32.0", environ={}, read=nothing)
    assert (
        "scheduler.update_from_output: there is no vllm.v1.core.sched.scheduler:Scheduler.update_from_output"
        in log.text
    )
    assert [record.levelname for record in log.records] == ["ERROR"]


def test_a_wrong_switch_is_refused_with_the_right_values(log: pytest.LogCaptureFixture) -> None:
    assert not install_acceptance("0.32.0", environ={"GUARD_VLLM_ACCEPTANCE": "on"}, read=nothing)
    assert "GUARD_VLLM_ACCEPTANCE is 'on'; it may be 1" in log.text


def test_switched_off_it_says_nothing(log: pytest.LogCaptureFixture) -> None:
    assert not install_acceptance("0.32.0", environ={"GUARD_VLLM_ACCEPTANCE": "0"}, read=nothing)
    assert log.records == []


def test_an_error_of_its_own_is_logged_once_and_passes(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))  # no __version__
    monkeypatch.setattr(plugin, "_done", set())
    monkeypatch.delenv("GUARD_VLLM_FAULTS", raising=False)
    monkeypatch.delenv("GUARD_VLLM_RACE_FREE", raising=False)
    register()
    register()
    assert [record.message for record in log.records] == [
        "guard: acceptance is not in place; vLLM serves on without it"
    ]


@pytest.mark.parametrize(
    ("asked", "version", "reason"),
    [
        ("1", "0.33.0", "release line 0.33 is not known; known are 0.32"),
        ("on", "0.32.0", "GUARD_VLLM_RACE_FREE is 'on'; it may be 1 or 0"),
        ("1", "0.32.0", "factory.connector_class: there is no vllm.distributed.kv_transfer"),
    ],
)
def test_a_race_free_cache_that_cannot_be_is_refused_loudly(
    log: pytest.LogCaptureFixture, asked: str, version: str, reason: str
) -> None:
    assert not install_race_free(lambda: version, environ={"GUARD_VLLM_RACE_FREE": asked}, read=nothing)
    assert reason in log.text
    assert f"REFUSED to make the KV cache of vLLM {version} race-free" in log.text
    assert "vLLM serves on WITHOUT it" in log.text


def test_a_race_free_cache_is_not_there_unless_asked_for(log: pytest.LogCaptureFixture) -> None:
    for environ in ({}, {"GUARD_VLLM_RACE_FREE": "0"}):
        assert not install_race_free(lambda: "0.99", environ=environ, read=nothing)
    assert log.records == []
