"""
What `test_worker` tests, as a program of its own; prints one JSON object, a result for each scenario.

    python -m tests.vllm.backend.vllm.layer_split.scenarios
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Sets the environment, the number of threads included, which is read when torch and vLLM are imported: a second thread
# in each rank would spin away the time of the other rank.
import tests.vllm.backend.vllm.conftest  # noqa: F401

# isort: split
import torch
import torch.distributed as dist

from guard.backend.device.layer_split import GroupBroadcasts
from guard.backend.kv.layer_split import Ownership, divide
from guard.backend.testbed.tiny import TinyShape
from guard.backend.vllm.layer_split import worker
from tests.vllm.backend.vllm.layer_split.engines import PAGE, Answers, blocks, differing, engine, load, serve

#: Large steps, so that there are few.
COMMON: dict[str, Any] = {"layers": 4, "memory": 4 << 20, "seqs": 16, "batched": 512}
ASKS = load(40, seed=3)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another attribute for the time being; workers forked meanwhile have it."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def served(asks: Any = ASKS, **options: Any) -> Answers:
    """Answers of an engine of four layers."""
    with engine(**COMMON, **options) as made:
        return serve(made, asks, at_once=24)


def told(**options: Any) -> str:
    """How an engine's start or its first answers failed; empty if they did not."""
    try:
        with engine(split=True, **options) as made:
            serve(made, ASKS[:4])
    except Exception as error:
        return str(error)
    return ""


class Nothing:
    """The handle of a broadcast that never was."""

    def wait(self) -> None:
        """Return."""

    def is_completed(self) -> bool:
        """It looks so."""
        return True


def late(self: GroupBroadcasts, payload: torch.Tensor, source: int) -> Any:
    """The owner sends late; the peer goes on as far as the schedule lets it."""
    if dist.get_rank() == source:
        time.sleep(0.005)
    return _send(self, payload, source)


_send = GroupBroadcasts.send


def swapped(layers: int, ranks: int) -> Ownership:
    """Rank 1 believes that the layers lie the other way round."""
    owners = divide(layers, ranks).owners
    return Ownership(owners if dist.get_rank() == 0 else tuple(reversed(owners)), ranks)


def main() -> None:
    """Run all."""
    found: dict[str, Any] = {}
    whole = served(split=False)
    split = served(split=True, check=True)
    found["split"] = {
        "different": differing(whole, split),
        "answered": len(set(split.tokens) - split.gone),
        "met": [split.cached, split.chunked, len(split.gone)],
        "steps": split.steps,
        "tokens": sum(map(len, split.tokens.values())),
    }
    with replaced(GroupBroadcasts, "send", late):
        found["late"] = {"different": differing(whole, served(ASKS[:6], split=True))}
    with replaced(GroupBroadcasts, "send", lambda *_: Nothing()):
        found["omitted"] = {"different": differing(whole, served(ASKS[:6], split=True))}
        found["omitted, checked"] = told(**COMMON, check=True)
    with replaced(worker, "divide", swapped):
        found["swapped"] = told(**COMMON)
    found["two heads"] = told(speculative=False, shape=TinyShape())
    # Scratch for one short request of a cache with room for many: 16 layers, of which each rank keeps eight.
    shape = TinyShape(num_layers=16, num_kv_heads=1)
    with engine(split=True, speculative=False, shape=shape, memory=200 * 16 * PAGE, seqs=1, model_len=320) as made:
        found["blocks, unsplit 200"] = blocks(made)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
