"""Settings are frozen, and only engines that were seen to continue a text are listed."""

from __future__ import annotations

import pytest

from guard.core.settings import RESUMABLE_ENGINES, Target
from guard.signals.registry import ENGINES
from guard.types import ReplicaId


def test_resumable_engines_are_known_engines() -> None:
    assert set(ENGINES) > RESUMABLE_ENGINES


def test_targets_are_frozen() -> None:
    target = Target(ReplicaId("a"), "vllm")
    with pytest.raises(AttributeError):
        target.engine = "text"  # type: ignore[misc]
