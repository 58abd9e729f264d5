"""Real vLLM servers for all tests here, started when first wanted and shared by those that want the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from guard.backend.testbed.configurations import smollm2, tiny
from guard.backend.testbed.pool import ServerPool
from guard.backend.testbed.server import ENVIRONMENT, VllmServer
from guard.lab.progress import best_progress

# Before any test's module imports torch: its number of threads is read then. Two of an engine in this process would
# wait for each other without a pause, and on shared cores for long.
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

_LOG_LINES = 60
#: One more than are wanted by many files, so that a file's own server ends none of those.
_MAX_SERVERS = 4
_TIMEOUT_SECONDS = 600
_STARTED = pytest.StashKey[ServerPool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            # The first test of a server waits for its start, and once for the making of its models.
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def vllm_servers(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[ServerPool]:
    """All servers of the session; `get(options)` gives one, started if need be. They end with the session."""
    pool = ServerPool(tmp_path_factory.mktemp("vllm-logs"), max_servers=_MAX_SERVERS)
    pytestconfig.stash[_STARTED] = pool
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture
def smollm2_draft_server(vllm_servers: ServerPool) -> VllmServer:
    """SmolLM2-135M with its draft by dropped layers, depth 3; faults and withdrawals allowed, sampling repaired."""
    return vllm_servers.get(smollm2(faults=True, race_free=True, progress=best_progress()))


@pytest.fixture
def smollm2_ngram_server(vllm_servers: ServerPool) -> VllmServer:
    """SmolLM2-135M with n-gram drafting, depth 3; sampling repaired."""
    return vllm_servers.get(smollm2("ngram", progress=best_progress()))


@pytest.fixture
def tiny_eagle_server(vllm_servers: ServerPool) -> VllmServer:
    """The tiny random model with its EAGLE head, depth 3; faults allowed, sampling repaired."""
    return vllm_servers.get(tiny("eagle", faults=True))


@pytest.fixture
def tiny_draft_server(vllm_servers: ServerPool) -> VllmServer:
    """The tiny random model with its draft by dropped layers, depth 3; tools, faults allowed, sampling repaired."""
    tools = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    return vllm_servers.get(msgspec.structs.replace(tiny("draft", faults=True), args=tools))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test shows the end of the logs of all servers alive."""
    report = yield
    pool = item.config.stash.get(_STARTED, None)
    if report.failed and pool is not None:
        for server in pool.servers:
            end = "\n".join(server.log_text().splitlines()[-_LOG_LINES:])
            report.sections.append((f"log of {server.options.model} ({server.log_path})", end))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how long the servers took to start: they are most of the time that these tests take."""
    pool = config.stash.get(_STARTED, None)
    if pool is not None and pool.start_seconds:
        started = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in pool.start_seconds)
        terminalreporter.write_line(f"vLLM servers started: {started}")
