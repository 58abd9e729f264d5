"""For all tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# Tests on real vLLM run in its own environment: deploy/vllm_env.sh.
collect_ignore = [] if importlib.util.find_spec("vllm") else ["vllm"]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """No test inherits the logging that another one set up."""
    yield
    structlog.reset_defaults()
