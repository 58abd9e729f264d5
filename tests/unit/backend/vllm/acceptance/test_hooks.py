"""guard.backend.vllm.acceptance.hooks: every hook of every table has its replacement."""

from __future__ import annotations

import pytest

from guard.backend.vllm.acceptance.hooks import plan
from guard.backend.vllm.acceptance.switch import Mode, Switch
from guard.backend.vllm.releases import RELEASES


@pytest.mark.parametrize("line", RELEASES)
def test_all_modules_of_a_release_are_waited_for(line: str) -> None:
    hooks = RELEASES[line]
    patches = plan(hooks, Switch(Mode.ALL), pytest.fail)
    assert all(patches.waits_for(hook.module) for hook in hooks.values() if hook.patched)
    assert not patches.waits_for("vllm.v1.metrics.stats")
