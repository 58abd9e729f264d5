"""LiteLLM's SDK and LangChain, through the guard, on a real engine: they get what they get from the engine itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.policy.judge import Judge
from guard.server.run import running_guard
from guard.shipped import find_policy
from tests.integration.conftest import LiveBackend

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

#: LiteLLM stays at this release: a later one was reported compromised.
PINS = ("litellm==1.106.12", "mcp==2.3.0", "langchain-openai==1.7.4", "langchain-core==1.8.3", "openai==2.54.0")
PROGRAM = Path(__file__).with_name("client_libraries.py")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specdec-guard-ci"
#: No fetching of prices, no telemetry, no tracing: all that is asked is the backend.
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGCHAIN_TRACING_V2": "false", "LANGSMITH_TRACING": "false"}


@pytest.fixture(scope="module")
def libraries() -> Path:
    """An interpreter that has both; made once, outside the checkout, under a key of the pins."""
    key = hashlib.sha256("\n".join((*PINS, sys.version)).encode()).hexdigest()[:16]
    folder = CACHE / f"clients-{key}"
    python, done = folder / "bin" / "python", folder / ".complete"
    if not done.is_file():
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PINS]
        subprocess.run(install, check=True, capture_output=True)
        done.touch()
    return python


async def answers(python: Path, url: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        str(python),
        str(PROGRAM),
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **OFFLINE},
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-3000:]
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


async def test_both_get_from_the_guard_what_they_get_from_the_engine(libraries: Path, embedded: LiveBackend) -> None:
    config = Config(
        upstreams=[UpstreamSettings(url=embedded.url)],
        listen=Listen(port=0),
        admin=Listen(port=0),
        timeouts=TimeoutSettings(drain=0.5),
    )
    direct = await answers(libraries, embedded.url)
    async with running_guard(config, Judge(find_policy("default"))) as guard:
        assert await answers(libraries, guard.url) == direct
    for library in ("litellm", "langchain"):
        said = direct[library]
        assert said["whole"]
        assert said["whole"] == said["streamed"] == said["whole, async"] == said["streamed, async"]
        assert any(said["tools"])
    assert "city" in direct["litellm"]["structured"]
    assert direct["langchain"]["structured"].keys() == {"city"}
