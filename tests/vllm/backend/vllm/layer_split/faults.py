"""Faults of the last rank of a prefill node; put in before its workers are forked, and switched by a file's content."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guard.backend.kv.messages import Drained
from guard.backend.vllm.push import send
from guard.backend.vllm.push.wire import Channel, Frame

#: Path of the file: `held` (writes are posted and do not land), `writes nothing` (but says it did), `mute` (answers to
#: aborts are lost).
FAULT = "GUARD_TEST_FAULT"
#: Suffix of a file beside it, which comes when a write that was held has landed.
LANDED = ".landed"


def _is(fault: str) -> bool:
    """Whether this is the last rank, and has this fault now."""
    from vllm.distributed.parallel_state import get_tp_group  # noqa: PLC0415 - after the environment

    group = get_tp_group()
    if group.rank_in_group != group.world_size - 1:
        return False
    return Path(os.environ[FAULT]).read_text(encoding="utf-8") == fault


def _writing(original: Callable[..., None]) -> Callable[..., None]:
    def write(*arguments: Any) -> None:
        held = False
        while _is("held"):
            held = True
            time.sleep(0.002)
        if not _is("writes nothing"):
            original(*arguments)
        if held:
            Path(os.environ[FAULT]).with_suffix(LANDED).touch()

    return write


class _Mute(Channel):
    """Says it has sent what it has not."""

    def send(self, frame: Frame) -> bool:
        return True if isinstance(frame, Drained) and _is("mute") else super().send(frame)


def install() -> None:
    """Change the prefill side."""
    send.write = _writing(send.write)
    send.Channel = _Mute  # type: ignore[misc]
