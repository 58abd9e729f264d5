"""Settings are frozen."""

from __future__ import annotations

import pytest

from guard.core.settings import Target
from guard.types import ReplicaId


def test_targets_are_frozen() -> None:
    target = Target(ReplicaId("a"), "vllm")
    with pytest.raises(AttributeError):
        target.engine = "text"  # type: ignore[misc]
