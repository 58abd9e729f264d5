"""For all tests."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
import structlog

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """No test inherits the logging that another one set up."""
    yield
    structlog.reset_defaults()
