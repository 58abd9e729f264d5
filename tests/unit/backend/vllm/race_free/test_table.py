"""guard.backend.vllm.race_free.table."""

from __future__ import annotations

from guard.backend.vllm.race_free.table import RELEASES


def test_little_is_replaced() -> None:
    for hooks in RELEASES.values():
        assert [name for name, hook in hooks.items() if hook.patched] == [
            "factory.connector_class",
            "pool.allocate",
            "pool.publish",
            "manager.lookup",
        ]


def test_a_release_that_nobody_has_read_is_not_known() -> None:
    assert list(RELEASES) == ["0.32"]
