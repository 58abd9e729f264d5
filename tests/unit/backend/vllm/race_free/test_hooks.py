"""guard.backend.vllm.race_free.hooks on a factory of connectors."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from guard.backend.vllm.race_free.connector import RaceFree
from guard.backend.vllm.race_free.hooks import Wrapping


class Connector:
    """Any connector."""


def factory() -> Any:
    class Factory:
        @classmethod
        def get_connector_class(cls, kv_transfer_config: Any) -> Any:
            return Connector

    original = Factory.__dict__["get_connector_class"]
    Factory.get_connector_class = Wrapping().connector_class(original)  # type: ignore[method-assign]
    return Factory


def test_the_configured_class_comes_with_the_rules_around_it() -> None:
    found = factory().get_connector_class(SimpleNamespace(kv_connector="Connector"))
    assert issubclass(found, Connector)
    assert issubclass(found, RaceFree)


def test_several_connectors_at_once_are_refused_loudly_and_once(caplog: pytest.LogCaptureFixture) -> None:
    made = factory()
    with caplog.at_level(logging.ERROR, "vllm.plugins.guard"):
        for name in ("MultiConnector", "Connector", "MultiConnector"):
            assert made.get_connector_class(SimpleNamespace(kv_connector=name)) is Connector
    assert [record.message[:32] for record in caplog.records] == ["guard: REFUSED to make MultiConn"]
